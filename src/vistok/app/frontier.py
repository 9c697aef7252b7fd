"""What two purses buy, from a study's table: training compute, and milliseconds for each image that is drawn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from vistok.engine.pace import in_words
from vistok.errors import UserError
from vistok.page.charts import Chart, Series
from vistok.study.findings.advice_source import SHIPPED, AdviceSource, advice_source
from vistok.study.findings.advise import Advice, Curve, Option, advice_lines, choose, covered, fit_curves, rank
from vistok.study.findings.table import generators
from vistok.study.run.record import StudyFolder

POINTS = 48  # budgets along a curve
MOST_LINES = 7  # tokenizers with a line of their own
MILLISECONDS = "ms_per_image"


@dataclass(frozen=True)
class Findings:
    """A study's runs on one data set, what was fitted to them, and the budgets (FLOPs) that they cover."""

    source: AdviceSource
    curves: tuple[Curve, ...]
    low: float
    high: float

    @property
    def table(self) -> pd.DataFrame:
        """The study's runs."""
        return self.source.table

    @property
    def rate(self) -> float:
        """Training FLOPs per second of the study's generators, their median, on the machines that it ran on."""
        rows = generators(self.table)
        return float((rows.train_flops / rows.seconds).median())

    @property
    def milliseconds(self) -> tuple[float, float] | None:
        """The least and the most that an image takes of what was recorded; None where nothing was."""
        taken = _taken(self.table)
        return (float(taken.min()), float(taken.max())) if len(taken) else None

    def within(self, milliseconds: float | None) -> list[Curve]:
        """Return the curves of generators that draw an image in this time; None: of all. Raises UserError if none does."""
        if milliseconds is None:
            return list(self.curves)
        taken = _taken(self.table)
        fast = [curve for curve in self.curves if taken.get(_key(curve), math.inf) <= milliseconds]
        if not fast:
            raise UserError(
                f"no generator of this study draws an image in {milliseconds:.3g} ms; the fastest that was timed takes "
                f"{taken.min():.3g} ms"
            )
        return fast


def _key(curve: Curve) -> tuple[str, str]:
    return str(curve.setting["tokenizer_choice"]), curve.generator


def _taken(table: pd.DataFrame) -> "pd.Series[float]":
    """Return milliseconds for each image by tokenizer and generator: the median of the runs where it was recorded."""
    rows = generators(table)
    if MILLISECONDS not in rows:
        return pd.Series(dtype=float)
    timed = rows[rows[MILLISECONDS].notna()]
    return timed.groupby(["tokenizer_choice", "choice"])[MILLISECONDS].median()


def known_studies(folders: Sequence[str]) -> list[str]:
    """Return what advice can be based on: folders of results, one called fashion first, then studies that come with vistok."""
    return [*sorted(folders, key=lambda folder: Path(folder).name != "fashion"), *SHIPPED]


def data_sets(study: str) -> list[str]:
    """Return the data sets that a study has runs on. Raises UserError if there is no table, or it is damaged."""
    return advice_source(study).data


def findings(study: str, data: str) -> Findings:
    """Return what a study found on a data set. Raises UserError where no law can be fitted."""
    file = StudyFolder(Path(study)).table
    return _fitted(study, data, file.stat().st_mtime if file.is_file() else 0.0)


@lru_cache(maxsize=4)
def _fitted(study: str, data: str, stamp: float) -> Findings:
    source = advice_source(study).of_data(data)
    curves = tuple(fit_curves(source.table))
    return Findings(source, curves, *covered(curves))


def words_of_budget(flops: float, rate: float, measured: bool) -> str:
    """Return a budget in words: FLOPs, and the time it takes at a rate (FLOPs a second)."""
    whose = "measured on this machine just now" if measured else "of the study's runs"
    return f"{flops:.3g} FLOPs for both stages: about {in_words(flops / rate)} at the {rate / 1e9:.3g} GFLOP/s {whose}"


def advice_of(found: Findings, flops: float, milliseconds: float | None) -> Advice:
    """Return what to train for both purses. Raises UserError if they are too small."""
    return choose(found.within(milliseconds), flops)


def lines_of(found: Findings, advice: Advice, rate: float | None) -> list[str]:
    """Return the advice in sentences, with what the study does not say; given this machine's rate, they also state times."""
    lines = advice_lines(advice, rate)
    if found.milliseconds is None:
        lines.append(
            "The milliseconds of an image are not recorded in this study's table (no column ms_per_image), so every generator "
            "counts as fast enough."
        )
        return lines
    taken = _taken(found.table)
    best = taken.get((str(advice.best.tokenizer["tokenizer_choice"]), advice.best.generator))
    if best is not None:
        lines.append(f"An image takes {best:.3g} ms, as measured where the study ran.")
    untimed = sum(_key(curve) not in taken for curve in found.curves)
    if untimed:
        lines.append(
            f"{untimed} of {len(found.curves)} pairs were not timed; they are left out where milliseconds are limited."
        )
    return lines


def frontier_chart(curves: Sequence[Curve], chosen: float) -> Chart:
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


def _by_tokenizer(curves: Sequence[Curve], budget: float) -> list[tuple[str, list[Curve]]]:
    """Return the curves of each tokenizer, those first that do best for a budget."""
    groups: dict[str, list[Curve]] = {}
    for curve in curves:
        groups.setdefault(str(curve.setting["tokenizer_choice"]), []).append(curve)

    def value(members: list[Curve]) -> float:
        return min((option.gfmd for _, option in _best(members, [budget])), default=math.inf)

    return sorted(groups.items(), key=lambda group: value(group[1]))


def _best(curves: Sequence[Curve], budgets: Sequence[float]) -> list[tuple[float, Option]]:
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
