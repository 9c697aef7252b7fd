"""The laws of a study: of every tokenizer choice's gFMD and nats per token against compute, in each way to count it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from vistok.study.config import Grid
from vistok.study.findings.claim_data import StudyData
from vistok.study.findings.fit import PowerLaw, fit_power_law, frontier

CONVENTIONS = {
    "total_flops": "training FLOPs of both stages (full count)",
    "train_flops": "training FLOPs of the generator (full count)",
    "train_flops_paper": "6 x parameters x steps x tokens (the paper's axis)",
}


@dataclass(frozen=True)
class Fit:
    """A law of a value against compute, fitted to the frontier runs of one tokenizer choice."""

    tokenizer: str
    value: str
    compute: str
    floor: str
    law: PowerLaw


def main_grids(data: StudyData) -> list[Grid]:
    """Return the main grid and those with the same baseline, generators, lengths and seeds: they have other tokenizers alone."""
    main = data.grid(data.study.main_grid)
    if main is None:
        return []
    alike = [
        grid
        for grid in data.study.grids
        if (grid.generators, grid.lengths, grid.seeds) == (main.generators, main.lengths, main.seeds)
        and data.study.baseline in [choice.name for choice in grid.tokenizers]
    ]
    return [main, *(grid for grid in alike if grid.name != main.name)]


def main_runs(data: StudyData) -> pd.DataFrame:
    """Return the generators of the main grids, or of all grids if these have none."""
    found = [data.runs(grid) for grid in main_grids(data)]
    rows = pd.concat(found).drop_duplicates("run") if found else data.generators
    return rows if len(rows) else data.generators


def all_fits(data: StudyData) -> list[Fit]:
    """Return the laws of gFMD and of nats per token for every tokenizer choice, in each way to count compute."""
    fits = []
    for name, rows in main_runs(data).groupby("tokenizer_choice"):
        for value in ("gfmd", "val_nats_per_token"):
            for compute in CONVENTIONS:
                x, y = _frontier_runs(rows.dropna(subset=[value, compute]), compute, value)
                if not y:  # a family without a likelihood
                    continue
                fixed = 0.9 * min(min(y), float(rows.rfmd.mean()) if value == "gfmd" else min(y))
                for floor, given in (("free", None), ("fixed", fixed)):
                    if _apart(x) > (3 if given is None else 2):
                        fits.append(Fit(str(name), value, compute, floor, fit_power_law(x, y, given)))
    return fits


def _apart(compute: list[float]) -> int:
    """Return how many of some runs' computes differ by a tenth or more: a law needs more of them than it has numbers to fit."""
    return 1 + int((np.diff(np.log(sorted(compute))) > np.log(1.1)).sum())


def _frontier_runs(rows: pd.DataFrame, compute: str, value: str) -> tuple[list[float], list[float]]:
    """Return (compute, value) of the runs on each seed's frontier."""
    x, y = [], []
    for _, runs in rows.groupby("seed"):
        kept = frontier(list(runs[compute]), list(runs[value]))
        x += [float(runs[compute].iloc[i]) for i in kept]
        y += [float(runs[value].iloc[i]) for i in kept]
    return x, y
