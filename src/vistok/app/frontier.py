"""What two purses buy, from a study's table: training compute, and milliseconds for each image that is drawn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from vistok.engine.pace import in_words
from vistok.page.charts import Chart, Series
from vistok.study.findings.advice_source import SHIPPED, AdviceSource, advice_source
from vistok.study.findings.advise import Advice, advice_lines, choose, covered, rank
from vistok.study.findings.image_cost import PerImage
from vistok.study.findings.measured_rate import recorded_rate
from vistok.study.findings.offers import Offer, Option, offers
from vistok.study.findings.two_purses import Sieved, cost_of, image_lines, sieve
from vistok.study.run.record import StudyFolder

POINTS = 48  # budgets along a curve
MOST_LINES = 7  # tokenizers with a line of their own


@dataclass(frozen=True)
class Findings:
    """A study's runs on one data set, what was fitted to them, and the budgets (FLOPs) that they cover."""

    source: AdviceSource
    curves: tuple[Offer, ...]
    low: float
    high: float

    @property
    def table(self) -> pd.DataFrame:
        """The study's runs."""
        return self.source.table

    @property
    def rate(self) -> float:
        """Training FLOPs per second of the study's generators, on the machines that it ran on."""
        return recorded_rate(self.source)

    @property
    def milliseconds(self) -> tuple[float, float] | None:
        """The least and the most that an image of the offers takes; None where no time was recorded."""
        taken = [cost for curve in self.curves if (cost := cost_of(curve, self.table, "ms")) is not None]
        return (min(taken), max(taken)) if taken else None

    def within(self, milliseconds: float | None) -> Sieved:
        """Return which curves draw an image in this time; None: all. Raises UserError if none does."""
        return sieve(self.curves, self.table, None if milliseconds is None else PerImage(milliseconds, "ms"))


def known_studies(folders: Sequence[str]) -> list[str]:
    """Return what advice can be based on: folders of results, one called fashion first, then studies that come with vistok."""
    return [*sorted(folders, key=lambda folder: Path(folder).name != "fashion"), *SHIPPED]


def data_sets(study: str) -> list[str]:
    """Return the data sets that a study has runs on. Raises UserError if there is no table, or it is damaged."""
    return advice_source(study).data


def findings(study: str, data: str) -> Findings:
    """Return what a study found on a data set. Raises UserError where it has no generators."""
    file = StudyFolder(Path(study)).table
    return _fitted(study, data, file.stat().st_mtime if file.is_file() else 0.0)


@lru_cache(maxsize=4)
def _fitted(study: str, data: str, stamp: float) -> Findings:
    source = advice_source(study).of_data(data)
    curves = tuple(offers(source.table))
    return Findings(source, curves, *covered(curves))


def words_of_budget(flops: float, rate: float, measured: bool) -> str:
    """Return a budget in words: FLOPs, and the time it takes at a rate (FLOPs a second)."""
    whose = "measured on this machine just now" if measured else "of the study's runs"
    return f"{flops:.3g} FLOPs for both stages: about {in_words(flops / rate)} at the {rate / 1e9:.3g} GFLOP/s {whose}"


def advice_of(found: Findings, flops: float, milliseconds: float | None) -> Advice:
    """Return what to train for both purses. Raises UserError if they are too small."""
    return choose(found.within(milliseconds).kept, flops)


def lines_of(found: Findings, advice: Advice, rate: float | None, milliseconds: float | None = None) -> list[str]:
    """Return the advice in sentences, with what the study does not say; given this machine's rate, they also state times."""
    return [
        *advice_lines(advice, rate, found.source),
        *image_lines(found.source, advice.best, found.within(milliseconds)),
    ]


def frontier_chart(curves: Sequence[Offer], chosen: float) -> Chart:
    """Return expected gFMD by budget: a line for each tokenizer with its best generator, a band and a mark for the advice."""
    low, high = covered(curves)
    budgets = [float(budget) for budget in np.geomspace(low * 1.0001, high * 0.9999, POINTS)]
    series = []
    for colour, (name, members) in enumerate(_by_tokenizer(curves, chosen)[:MOST_LINES], 1):
        bought = _best(members, budgets)
        series.append(_line(name, bought, colour))
    best = _best(curves, budgets)
    band = Series(
        "advised", [b for b, _ in best], [o.gfmd for _, o in best], 0, low=[o.low for _, o in best], high=[o.high for _, o in best],
        texts=[_text(b, o) for b, o in best],
    )  # fmt: skip
    now = _best(curves, [chosen])
    mark = Series(
        "", [b for b, _ in now], [o.gfmd for _, o in now], 0, marks=True, low=[o.low for _, o in now],
        high=[o.high for _, o in now], texts=[_text(b, o) for b, o in now], sizes=[6.0] * len(now),
    )  # fmt: skip
    return Chart(
        "Expected gFMD by training budget (lower is better)", [band, *series, mark], "training FLOPs of both stages", "gFMD",
        x_log=True, y_log=True,
    )  # fmt: skip


def _by_tokenizer(curves: Sequence[Offer], budget: float) -> list[tuple[str, list[Offer]]]:
    """Return the curves of each tokenizer, those first that do best for a budget."""
    groups: dict[str, list[Offer]] = {}
    for curve in curves:
        groups.setdefault(str(curve.setting["tokenizer_choice"]), []).append(curve)

    def value(members: list[Offer]) -> float:
        return min((option.gfmd for _, option in _best(members, [budget])), default=math.inf)

    return sorted(groups.items(), key=lambda group: value(group[1]))


def _best(curves: Sequence[Offer], budgets: Sequence[float]) -> list[tuple[float, Option]]:
    """Return (budget, option to advise) of the budgets that buy something."""
    bought = []
    for budget in budgets:
        options = [option for curve in curves if (option := curve.option(budget)) is not None]
        if options:
            bought.append((budget, rank(options)[0]))
    return bought


def _line(name: str, bought: Sequence[tuple[float, Option]], colour: int) -> Series:
    texts = [_text(budget, option) for budget, option in bought]
    return Series(name, [b for b, _ in bought], [o.gfmd for _, o in bought], colour, texts=texts)


def _text(budget: float, option: Option) -> str:
    tokenizer = option.tokenizer["tokenizer_choice"]
    return (
        f"{budget:.3g} FLOPs: {tokenizer} with {option.generator} for {option.steps:,} steps, gFMD {option.gfmd:.2f} "
        f"({option.low:.2f} to {option.high:.2f})"
    )
