"""Distances at every guidance scale, the scale that many runs of one kind choose together, and costs in fewer steps."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from vistok.study.findings.claim_data import CELL


def parsed(text: str) -> dict[float, float]:
    """Return the column text `scale:distance ...` as a dictionary."""
    pairs = (part.split(":") for part in text.split())
    return {float(scale): float(value) for scale, value in pairs}


def chosen_by_others(rows: pd.DataFrame) -> "pd.Series[float]":
    """Return each run's guidance scale: the one with the least mean log distance to held-out images in its cell's other runs.

    A cell is a tokenizer choice, a generator and a length; its runs differ in seed. So no run's own samples choose its scale.
    A cell with one run has no others: its run chooses for itself.
    """
    scales = pd.Series(np.nan, index=rows.index)
    for _, runs in rows.groupby(["tokenizer_choice", *CELL]):
        logs = pd.DataFrame([parsed(text) for text in runs.gfmd_val_by_scale], index=runs.index).map(np.log)
        for run in runs.index:
            others = logs.drop(index=run) if len(logs) > 1 else logs
            scales[run] = float(others.columns[int(others.mean().to_numpy().argmin())])
    return scales


def at_scales(texts: "pd.Series[str]", scales: "pd.Series[float] | float") -> "pd.Series[float]":
    """Return each run's distance at its scale, or at one scale for all; NaN where it was not measured."""
    wanted: Mapping[object, float] = (
        scales.to_dict() if isinstance(scales, pd.Series) else dict.fromkeys(texts.index, float(scales))
    )
    values = {run: parsed(text).get(wanted[run], np.nan) for run, text in texts.items()}
    return pd.Series(values, dtype=float)


def in_fewer_steps(run: "pd.Series[float]") -> dict[str, dict[float, float]]:
    """Return what an image of a run costs in each smaller number of steps, by the column of the usual number.

    FLOPs were counted; milliseconds are in proportion to them.
    """
    flops = parsed(str(run["flops_by_steps"]))
    costs = {"flops_per_image": flops}
    if "ms_per_image" in run:
        rate = float(run["ms_per_image"]) / float(run["flops_per_image"])
        costs["ms_per_image"] = {steps: value * rate for steps, value in flops.items()}
    return costs


def with_fewer_steps(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows, with one more for each smaller number of steps in which a run was scored: its own gFMD and costs."""
    if "gfmd_by_steps" not in rows:
        return rows
    more = []
    for _, run in rows[rows.gfmd_by_steps.notna()].iterrows():
        costs = in_fewer_steps(run)
        for steps, gfmd in parsed(str(run.gfmd_by_steps)).items():
            values = {column: cost[steps] for column, cost in costs.items()}
            more.append({**run, **values, "gfmd": gfmd, "choice": f"{run.choice} drawn in {steps:g} steps"})
    return pd.concat([rows, pd.DataFrame(more)], ignore_index=True) if more else rows
