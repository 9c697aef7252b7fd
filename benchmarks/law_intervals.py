"""How many runs lie where a study's laws say: laws of a few seeds, held against the runs of all other seeds.

    python benchmarks/law_intervals.py

Of the seeds that all tokenizers of a grid have, every choice of one, two or three is taken, and laws are fitted to their runs (gFMD
against the generator's FLOPs, for each tokenizer and generator), once with each law's own scatter and once with the scatter common to
all. Stated are the share of the other seeds' runs in the laws' 95 % intervals, the middle and the extreme half widths, and the rms
error. Recomputed from committed tables, in a minute; writes results/decisive/law_intervals.md.
"""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from vistok.files import write_atomic
from vistok.recipes import find_recipe
from vistok.study.findings.claim_data import StudyData
from vistok.study.findings.offers import law_of, laws_of
from vistok.study.findings.table import read_table

RESULTS = Path(__file__).resolve().parents[1] / "results"
GRIDS = (("fashion", "fashion_study", "main"), ("decisive", "fashion_decisive_study", "decisive"))
KIND = ["tokenizer_choice", "choice"]
HEAD = """# Do the intervals of laws hold what they say?

`python benchmarks/law_intervals.py`: laws fitted to the runs of some seeds, held against the runs of the others; 95 % intervals.
Half widths and errors are of log gFMD.

| study | seeds of a law | scatter | runs inside | half width: middle | smallest to largest | rms error |
|---|---|---|---|---|---|---|
"""


def main() -> None:
    """Write the table."""
    lines = []
    for folder, recipe, grid_name in GRIDS:
        data = StudyData(read_table(RESULTS / folder / "runs.csv"), find_recipe(recipe))
        grid = data.grid(grid_name)
        assert grid is not None
        rows = data.runs(grid)
        choices = rows.groupby("seed").tokenizer_choice.transform("nunique")
        rows = rows[choices == choices.max()]
        seeds = sorted(rows.seed.unique())
        for count in range(1, min(4, len(seeds))):
            for own in (True, False):
                lines.append(
                    f"| {folder} | {count} | {'own' if own else 'common'} | {_line(rows, seeds, count, own)} |"
                )
                print(lines[-1], flush=True)
    write_atomic(RESULTS / "decisive" / "law_intervals.md", (HEAD + "\n".join(lines) + "\n").encode())


def _line(rows: pd.DataFrame, seeds: Sequence[int], count: int, own: bool) -> str:
    """Return how laws of so many seeds predict the others' runs, as cells of the table."""
    errors, halves = [], []
    for chosen in itertools.combinations(seeds, count):
        known = rows[rows.seed.isin(chosen)]
        laws = {key: law_of(runs) for key, runs in known.groupby(KIND)} if own else laws_of(known)
        for key, runs in rows[~rows.seed.isin(chosen)].groupby(KIND):
            for run in runs.itertuples():
                expected, _, high = laws[key].predict(run.train_flops)
                errors.append(math.log(run.gfmd / expected))
                halves.append(math.log(high / expected))
    off, half = np.abs(errors), np.array(halves)
    return (
        f"{100 * np.mean(off < half):.0f} % of {len(off):,} | {np.median(half):.2f} | {half.min():.2f} to {half.max():.2f} "
        f"| {math.sqrt(np.mean(off**2)):.2f}"
    )


if __name__ == "__main__":
    main()
