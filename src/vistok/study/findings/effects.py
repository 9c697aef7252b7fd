"""Differences to the baseline: over all cells that an arm shares with it, and cell by cell; paired by tokenizer seed."""

import math
from dataclasses import dataclass

import pandas as pd

from vistok.study.findings.claim_data import CELL, in_common, of_complete_seeds
from vistok.study.findings.verdict import Estimate, mean_of_seeds


@dataclass(frozen=True)
class Effect:
    """How an arm's score compares with the baseline's: a mean over cells, with each seed's own.

    `ratio` says that these are ratios (geometric means), else differences. `found` and `seeds` are logarithms of ratios.
    """

    arm: str
    ratio: bool
    found: Estimate
    seeds: tuple[float, ...]
    cells: int

    @property
    def settled(self) -> bool:
        """Whether the interval over seeds excludes no difference."""
        return self.found.low > 0 or self.found.high < 0


def effect(rows: pd.DataFrame, baseline: str, arm: str, value: str, ratio: bool = True) -> Effect | None:
    """Return an arm's difference to the baseline in a column, a mean over the cells that both have, of the seeds that have them all."""
    gaps = _gaps(of_complete_seeds(_paired(rows, baseline, arm, value)), baseline, arm, value, ratio)
    if gaps.empty:
        return None
    by_seed = gaps.groupby("seed").mean()
    return Effect(arm, ratio, mean_of_seeds(list(by_seed)), tuple(by_seed), gaps.groupby(CELL).ngroups)


def effects_by_cell(
    rows: pd.DataFrame, baseline: str, arm: str, value: str, ratio: bool = True
) -> dict[tuple[str, float], Effect]:
    """Return the same for each cell (generator, length) alone."""
    gaps = _gaps(_paired(rows, baseline, arm, value), baseline, arm, value, ratio)
    if gaps.empty:
        return {}
    return {
        (str(generator), float(length)): Effect(arm, ratio, mean_of_seeds(list(of_cell)), tuple(of_cell), 1)  # type: ignore[arg-type]
        for (generator, length), of_cell in gaps.groupby(CELL)  # type: ignore[misc]
    }


def _paired(rows: pd.DataFrame, baseline: str, arm: str, value: str) -> pd.DataFrame:
    """Return the runs of both with a value, in the cells (seed, generator, length) that both have."""
    if value not in rows:
        return rows.iloc[:0]
    return in_common(rows[["seed", *CELL, "tokenizer_choice", value]].dropna(subset=[value]), baseline, arm)


def _gaps(both: pd.DataFrame, baseline: str, arm: str, value: str, ratio: bool) -> "pd.Series[float]":
    """Return arm - baseline by (seed, generator, length)."""
    if both.empty:
        return pd.Series(dtype=float)
    keys = ["seed", *CELL]
    values = both[value].astype(float)
    both = both.assign(**{value: values.map(math.log) if ratio else values})
    means = both.groupby([*keys, "tokenizer_choice"])[value].mean().unstack("tokenizer_choice")
    return means[arm] - means[baseline]


def per_seed(rows: pd.DataFrame, baseline: str, arm: str, value: str, ratio: bool) -> Effect | None:
    """Return the difference between two tokenizer choices in one of their own columns, paired by seed."""
    sides = [rows[rows.choice == name].set_index("seed")[value].astype(float) for name in (arm, baseline)]
    if ratio:
        sides = [side.map(math.log) for side in sides]
    gaps = (sides[0] - sides[1]).dropna()
    return Effect(arm, ratio, mean_of_seeds(list(gaps)), tuple(gaps), 1) if len(gaps) else None


def change(found: Effect) -> str:
    """Return an effect in words: percent for a ratio; with its interval, if there is one."""
    value = _change(found.found.value, found.ratio)
    if found.found.n < 2:
        return value
    ends = " to ".join(_change(bound, found.ratio) for bound in (found.found.low, found.found.high))
    return f"{value} ({ends.replace(' %', '', 1)})"


def lower_by(found: Effect) -> str:
    """Return a ratio as `24 % lower (9 to 36 %)`, or `10 % lower (4 % higher to 23 % lower)`."""
    below = found.found.value < 0
    if found.found.n < 2:
        return _side(found.found.value)
    ends = (found.found.high, found.found.low) if below else (found.found.low, found.found.high)
    if found.settled:
        first, last = (abs(_percent(end)) for end in ends)
        return f"{_side(found.found.value)} ({first:.0f} to {last:.0f} %)"
    return f"{_side(found.found.value)} ({_side(ends[0])} to {_side(ends[1])})"


def _side(log: float) -> str:
    return f"{abs(_percent(log)):.0f} % {'lower' if log < 0 else 'higher'}"


def _change(value: float, ratio: bool) -> str:
    return f"{_percent(value):+.0f} %" if ratio else f"{value:+.3f}"


def _percent(log: float) -> float:
    return 100 * math.expm1(min(log, 700)) if math.isfinite(log) else log
