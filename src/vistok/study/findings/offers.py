"""What a budget buys by the runs of a study: along the law of runs of several lengths, or exactly what other runs had."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from vistok.study.findings.fit import PowerLaw, fit_power_law, with_common_scatter
from vistok.study.findings.table import generators, tokenizers
from vistok.study.run.record import OTHERS

SETTING = ("tokenizer_choice", "codebook_size", "num_tokens", "crt_variant", "crt_weight", "crt_layers")
# A law of enough seeds is trusted up to this many times the compute of its most expensive run.
REACH = 2.0
# How much is believed of what laws promise beyond their longest run (the fall of log gFMD): 53 % came true in results/fashion (C7.inside).
BELIEVED = 0.5
# Tokenizer seeds from which on an expected score is believed.
SEEDS = 3
# Half of a 95 % interval of log gFMD between tokenizers of one setting (0.32 to 0.45 in results/fashion), of which runs on one
# tokenizer show nothing.
BETWEEN_TOKENIZERS = 0.45


@dataclass(frozen=True)
class Option:
    """A tokenizer setting with a generator size: what a budget buys, and the gFMD to expect (95 % interval).

    `supported`: it may spend the budget whole; `beyond`: it costs its generator more than any run did.
    """

    tokenizer: dict[str, Any]
    generator: str
    params: int
    steps: int
    flops: float
    tokenizer_flops: float
    gfmd: float
    low: float
    high: float
    runs: int
    seeds: int
    scatter: float
    supported: bool
    beyond: bool = False


@dataclass(frozen=True)
class Curve:
    """One generator size on one tokenizer setting: its law, and the cost of its runs.

    `reach`: up to how many times the compute of its most expensive run the law is trusted; once, of too few seeds and where
    longer runs were worse, which `improves` says.
    """

    setting: dict[str, Any]
    generator: str
    params: int
    tokenizer_flops: float
    flops_per_step: float
    seeds: int
    law: PowerLaw
    reach: float = REACH
    improves: bool = True

    @property
    def ends(self) -> tuple[float, float]:
        """The budgets of which it says something, in FLOPs of both stages."""
        return self.tokenizer_flops + self.law.low_compute, self.tokenizer_flops + self.reach * self.law.high_compute

    def option(self, budget: float) -> Option | None:
        """Return what a budget buys; None if it does not cover the tokenizer and the shortest run.

        A budget beyond `reach` times the longest run is not spent in full: of such runs the law says nothing, or longer runs are
        known to be worse. Beyond the runs only half of what the law promises is expected; the lower end
        stays the law's, and no end lies below its floor.
        """
        available, reach = budget - self.tokenizer_flops, self.reach * self.law.high_compute
        if available < self.law.low_compute * 0.999:
            return None
        supported = available <= reach * 1.001 or not self.improves
        compute = max(1, int(min(available, reach) / self.flops_per_step)) * self.flops_per_step
        value, low, high = self.law.predict(compute)
        promised = float(self.law(min(compute, self.law.high_compute))) / value
        worse = promised ** (1 - BELIEVED)
        steps = round(compute / self.flops_per_step)
        return Option(
            self.setting, self.generator, self.params, steps, self.tokenizer_flops + compute, self.tokenizer_flops,
            value * worse, max(low, self.law.l_min), high * worse, self.law.n, self.seeds, self.law.scale, supported,
            compute > 1.01 * self.law.high_compute,
        )  # fmt: skip


@dataclass(frozen=True)
class Point:
    """Runs of one length, where there are too few lengths for a law: they cost what they cost, as a shortcut's students do.

    `gfmd`: of each run; `scatter`: the standard deviation of log gFMD between runs of one kind, over all such runs of the table, with
    its degrees of freedom. Three runs alone say little of it.
    """

    setting: dict[str, Any]
    generator: str
    params: int
    tokenizer_flops: float
    flops: float
    steps: int
    seeds: int
    rfmd: float
    gfmd: tuple[float, ...]
    scatter: float = BETWEEN_TOKENIZERS / 1.96
    freedom: int = 0

    @property
    def ends(self) -> tuple[float, float]:
        """The budgets of which it says something, in FLOPs of both stages: its cost."""
        return (self.tokenizer_flops + self.flops,) * 2

    def option(self, budget: float) -> Option | None:
        """Return the runs as an option, with the interval in which a new one would fall; None if a budget does not cover them."""
        total, n = self.tokenizer_flops + self.flops, len(self.gfmd)
        if budget < total * 0.999:
            return None
        quantile = float(special.stdtrit(self.freedom, 0.975)) if self.freedom else 1.96
        half = quantile * self.scatter * math.sqrt(1 + 1 / n)
        value = math.exp(float(np.mean(np.log(self.gfmd))))
        low, high = _bounded(value * math.exp(-half), self.rfmd, min(self.gfmd)), value * math.exp(half)
        return Option(
            self.setting, self.generator, self.params, self.steps, total, self.tokenizer_flops, value, low, high, n, self.seeds,
            self.scatter, True,
        )  # fmt: skip


Offer = Curve | Point


def _bounded(low: float, rfmd: float, reached: float) -> float:
    """Return the lower end of an expected gFMD.

    Samples are decoded by the tokenizer, so that it does not reach below rFMD, unless the runs themselves do, as guided ones can.
    """
    return max(low, rfmd if rfmd <= reached else 0.9 * reached)


def offers(table: pd.DataFrame) -> list[Offer]:
    """Return what every combination of tokenizer setting and generator size offers: a law, or else a point for each length."""
    costs = _tokenizer_costs(table)
    found: list[Offer] = []
    for _, rows in scored(table).groupby([*SETTING, "choice", "params"], dropna=False):  # vectors have no codes
        first = rows.iloc[0]
        setting = {name: _plain(first[name]) for name in SETTING} | {OTHERS: _plain(first.get(OTHERS))}
        whose = setting, str(first.choice), int(first.params), float(costs[setting["tokenizer_choice"]])
        improving, rfmd = _until_best(rows), float(rows.rfmd.mean())
        law = law_of(improving, above=rfmd)
        if law is not None:
            per_step, seeds = float((rows.train_flops / rows.steps).mean()), int(improving.seed.nunique())
            improves = len(improving) == len(rows)
            reach = REACH if improves and seeds >= SEEDS else 1.0
            found.append(Curve(*whose, per_step, seeds, law, reach, improves))
            continue
        for _, runs in rows.groupby("steps"):
            flops, scores = float(runs.train_flops.mean()), tuple(map(float, runs.gfmd))
            found.append(Point(*whose, flops, int(runs.steps.iloc[0]), int(runs.seed.nunique()), rfmd, scores))
    return _with_scatter(found)


def scored(table: pd.DataFrame) -> pd.DataFrame:
    """Return the generators' rows that can be weighed: scored, of known length and size, on a tokenizer of known cost."""
    rows = generators(table)
    numbers = rows[["gfmd", "train_flops", "steps", "params"]]
    sound = ((numbers > 0) & (numbers < math.inf)).all(axis=1)
    return rows[sound & rows.tokenizer_choice.isin(_tokenizer_costs(table).index)]


def _tokenizer_costs(table: pd.DataFrame) -> "pd.Series[float]":
    """Return the mean FLOPs of each tokenizer choice that has any."""
    known = tokenizers(table)
    return known[np.isfinite(known.train_flops)].groupby("tokenizer_choice").train_flops.mean()


def _until_best(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the runs up to the length whose gFMD is lowest on average: longer ones memorise few images and get worse."""
    by_length = np.log(rows.gfmd).groupby(rows.steps).mean()
    return rows[rows.steps <= by_length.idxmin()]


def _with_scatter(found: list[Offer]) -> list[Offer]:
    """Return offers that know how far the table's runs scatter: about laws, and those of one length about their mean."""
    curves, points = [one for one in found if isinstance(one, Curve)], [one for one in found if isinstance(one, Point)]
    laws = with_common_scatter([curve.law for curve in curves])
    return [*(replace(curve, law=law) for curve, law in zip(curves, laws, strict=True)), *_points_with_scatter(points)]


def _points_with_scatter(points: list[Point]) -> list[Point]:
    """Return points that know their common scatter; where no kind has two runs, as tokenizers scatter."""
    several = [np.log(point.gfmd) for point in points if len(point.gfmd) > 1]
    freedom = sum(len(logs) - 1 for logs in several)
    if not freedom:
        return points
    scatter = math.sqrt(sum(float(((logs - logs.mean()) ** 2).sum()) for logs in several) / freedom)
    return [replace(point, scatter=scatter, freedom=freedom) for point in points]


def law_of(rows: pd.DataFrame, above: float | None = None) -> PowerLaw | None:
    """Return the law of gFMD in the generator's FLOPs; its floor is fitted given 4 lengths and 6 runs.

    Else it is the tokenizer's rFMD, or a little less than the best run where that is lower; likewise if the floor that was fitted is
    below `above`. None for fewer than 3 lengths.
    """
    lengths = rows.steps.nunique()
    if len(rows) < 3 or lengths < 3:
        return None
    reached = float(rows.rfmd.mean()) if rows.rfmd.notna().any() else 0.0
    fixed = min(reached, 0.9 * float(rows.gfmd.min()))
    few = lengths < 4 or len(rows) < 6
    law = fit_power_law(list(rows.train_flops), list(rows.gfmd), fixed if few else None)
    if above is not None and law.l_min < min(above, fixed):
        return fit_power_law(list(rows.train_flops), list(rows.gfmd), fixed)
    return law


def laws_of(rows: pd.DataFrame) -> dict[tuple[str, str], PowerLaw]:
    """Return the law of every (tokenizer choice, generator) whose runs are enough for one, all with their common scatter."""
    groups = rows.groupby(["tokenizer_choice", "choice"])
    found = {key: law for key, runs in groups if (law := law_of(runs)) is not None}
    return dict(zip(found, with_common_scatter(list(found.values())), strict=True))  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
