"""Advice for a budget, from a study's table: which tokenizer and which generator to train, and for how long.

For each tokenizer setting and generator size, gFMD follows a law in the generator's training FLOPs
(`fit.py`). A budget first pays for the tokenizer, and the rest buys steps. The lowest expected gFMD wins.
"""

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from vistok.errors import UserError, counted
from vistok.study.findings.advice_source import AdviceSource
from vistok.study.findings.as_command import train_words
from vistok.study.findings.fit import PowerLaw, fit_power_law
from vistok.study.findings.table import generators, tokenizers
from vistok.units import steps

SETTING = ("tokenizer_choice", "codebook_size", "num_tokens", "crt_variant", "crt_weight", "crt_layers")
# A law is trusted up to this many times the compute of its most expensive run.
REACH = 2.0
# Tokenizer seeds from which on an expected score is believed.
SEEDS = 3
# With fewer, how much wider an interval is: half of a 95 % interval of log gFMD between tokenizers of one setting, of which the
# runs on one tokenizer show nothing (0.32 to 0.45 in results/fashion).
BETWEEN_TOKENIZERS = 0.45
# Standard normal quantile of 80 % power.
POWER = 0.8416
# If it takes more seeds than this to tell two options apart, they count as alike.
MANY_SEEDS = 100


@dataclass(frozen=True)
class Option:
    """A tokenizer setting with a generator size: what a budget buys, and the gFMD to expect (95 % interval)."""

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


@dataclass(frozen=True)
class Advice:
    """The best option, and the best with another tokenizer; `surer_*`: what would tell them apart, None if nothing would."""

    budget: float
    best: Option
    runner_up: Option | None
    surer_seeds: int | None
    surer_flops: float | None
    supported: bool
    range_low: float
    range_high: float

    def as_json(self) -> dict[str, Any]:
        """Return the advice as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Curve:
    """One generator size on one tokenizer setting: its law, the cost of its runs, and the tokenizer's rFMD."""

    setting: dict[str, Any]
    generator: str
    params: int
    tokenizer_flops: float
    flops_per_step: float
    seeds: int
    rfmd: float
    law: PowerLaw

    def option(self, budget: float) -> Option | None:
        """Return what a budget buys; None if it does not cover the tokenizer and the shortest run.

        A budget beyond `REACH` times the longest run is not spent in full: of such runs the law says nothing.
        """
        available, reach = budget - self.tokenizer_flops, REACH * self.law.high_compute
        if available < self.law.low_compute * 0.999:
            return None
        supported = available <= reach * 1.001
        compute = max(1, int(min(available, reach) / self.flops_per_step)) * self.flops_per_step
        # Samples are decoded by the tokenizer, so however far a law is extrapolated, gFMD stays above the tokenizer's rFMD.
        value, low, high = self.law.predict(compute)
        if self.seeds < SEEDS:
            low, high = low * math.exp(-BETWEEN_TOKENIZERS), high * math.exp(BETWEEN_TOKENIZERS)
        value, low, high = (max(bound, self.rfmd) for bound in (value, low, high))
        steps = round(compute / self.flops_per_step)
        return Option(
            self.setting, self.generator, self.params, steps, self.tokenizer_flops + compute, self.tokenizer_flops,
            value, low, high, self.law.n, self.seeds, self.law.scale, supported,
        )  # fmt: skip


def advise(table: pd.DataFrame, budget: float) -> Advice:
    """Return advice for a budget, in FLOPs for both stages; see `choose`."""
    return choose(fit_curves(table), budget)


def choose(curves: Sequence[Curve], budget: float) -> Advice:
    """Return advice for a budget, in FLOPs for both stages.

    The lowest expected gFMD wins; of a tokenizer with fewer than three seeds, the upper end of its interval counts instead, so
    that a law of few runs that could be anything does not win by its middle.

    Raises UserError where no curve has enough runs, or where the budget does not cover any tokenizer and its shortest run.
    """
    if not (math.isfinite(budget) and budget > 0):
        raise UserError(f"the budget must be above 0 FLOPs, found {budget:g}")
    low, high = covered(curves)
    options = [option for curve in curves if (option := curve.option(budget)) is not None]
    if not options:
        raise UserError(
            f"a budget of {budget:.3g} FLOPs does not cover the cheapest tokenizer of this study with its shortest generator "
            f"({low:.3g}), and of shorter runs the study says nothing; give {low:.3g} to {high:.3g}"
        )
    ranked = rank(options)
    best = ranked[0]
    others = [option for option in ranked if option.tokenizer != best.tokenizer]
    seeds, flops = _surer(best, others[0]) if others else (None, None)
    return Advice(budget, best, others[0] if others else None, seeds, flops, best.supported, low, high)


def rank(options: Sequence[Option]) -> list[Option]:
    """Return options, the one to advise first."""
    return sorted(options, key=lambda one: one.gfmd if one.seeds >= SEEDS else one.high)


def covered(curves: Sequence[Curve]) -> tuple[float, float]:
    """Return the budgets (FLOPs) of which a study says something. Raises UserError where no curve has enough runs."""
    if not curves:
        raise UserError(
            "no tokenizer of this study has a generator with at least 3 runs of different lengths, so there is nothing to fit; "
            "run more of the study first"
        )
    ends = [curve.tokenizer_flops + end for curve in curves for end in (curve.law.low_compute, curve.law.high_compute)]
    return min(ends), REACH * max(ends)


def fit_curves(table: pd.DataFrame) -> list[Curve]:
    """Return the law of every combination of tokenizer setting and generator size that has enough runs."""
    costs: dict[str, float] = tokenizers(table).groupby("tokenizer_choice").train_flops.mean().to_dict()  # type: ignore[assignment]
    curves = []
    for _, rows in generators(table).groupby([*SETTING, "choice", "params"], dropna=False):  # vectors have no codes
        first = rows.iloc[0]
        setting = {name: _plain(first[name]) for name in SETTING}
        law = law_of(rows)
        if law is not None:
            per_step = float((rows.train_flops / rows.steps).mean())
            curves.append(Curve(
                setting, str(first.choice), int(first.params), float(costs[setting["tokenizer_choice"]]), per_step,
                int(rows.seed.nunique()), float(rows.rfmd.mean()), law,
            ))  # fmt: skip
    return curves


def law_of(rows: pd.DataFrame) -> PowerLaw | None:
    """Return the law of gFMD in the generator's FLOPs; its floor is fitted given 4 lengths and 6 runs.

    Else it is the tokenizer's rFMD, or a little less than the best run where that is lower. None for fewer than 3 lengths.
    """
    lengths = rows.steps.nunique()
    if len(rows) < 3 or lengths < 3:
        return None
    reached = float(rows.rfmd.mean()) if rows.rfmd.notna().any() else 0.0
    floor = None if lengths >= 4 and len(rows) >= 6 else min(reached, 0.9 * float(rows.gfmd.min()))
    return fit_power_law(list(rows.train_flops), list(rows.gfmd), floor)


def _surer(best: Option, other: Option) -> tuple[int | None, float | None]:
    """Return (further seeds of each, FLOPs) after which the 95 % interval of their ratio would exclude 1 four times in five.

    At least two seeds are needed in all, since one says nothing about how tokenizers of the same setting vary.
    """
    gap = math.log(other.gfmd / best.gfmd)
    variance = best.scatter**2 + other.scatter**2
    if gap <= 0:
        return None, None
    needed = max(2, math.ceil((1.96 + POWER) ** 2 * variance / gap**2))
    if needed > MANY_SEEDS:
        return None, None
    further = max(0, needed - min(best.seeds, other.seeds))
    return further, further * (best.flops + other.flops)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def advice_commands(advice: Advice, source: AdviceSource) -> list[str]:
    """Return the commands that train what is advised, from recipes; none where the configs behind the choices are not known."""
    best = advice.best
    tokenizer = source.tokenizer(str(best.tokenizer["tokenizer_choice"]))
    generator = source.generator(best.generator)
    if tokenizer is None or generator is None:
        return []
    words = train_words(tokenizer), train_words(generator.replace(length=steps(best.steps)))
    if words[0] is None or words[1] is None:
        return []
    *start, name = words[1][:4]
    return [shlex.join(words[0]), shlex.join([*start, name, "--tokenizer", "latest", *words[1][4:]])]


# What people write -> the unit, and how many of it that is.
_UNITS = {
    **dict.fromkeys(("", "flop", "flops"), ("flops", 1.0)),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), ("minutes", 1.0)),
    **dict.fromkeys(("h", "hour", "hours"), ("hours", 1.0)),
    **dict.fromkeys(("d", "day", "days"), ("hours", 24.0)),
}


def parse_budget(text: str) -> tuple[float, str]:
    """Return (number, "flops", "hours" or "minutes") from text like "2e14 flops"; raises UserError if it is anything else."""
    found = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-z]*)\s*", text.lower())
    unit, factor = _UNITS.get(found[2], ("", 1.0)) if found else ("", 1.0)
    try:
        value = float(found[1]) * factor if found else math.nan
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0) or not unit:
        raise UserError(
            f'--budget {text!r}: give a number above 0 and a unit, as in "2e14 flops", "3 hours", "20 minutes" or "2 days"'
        )
    return value, unit


def advice_lines(advice: Advice, flops_per_second: float | None = None) -> list[str]:
    """Return the advice in sentences; given a rate, they also state times."""
    best = advice.best
    lines = []
    if not advice.supported:
        lines.append(
            f"This spends {best.flops:.3g} of {advice.budget:.3g} FLOPs: of generators that are trained for more than {REACH:g} times "
            f"as long as the study's longest, its runs say nothing (they support {advice.range_low:.3g} to {advice.range_high:.3g})."
        )
    lines += [
        f"Tokenizer: {_setting(best.tokenizer)}; {best.tokenizer_flops:.3g} FLOPs{_time(best.tokenizer_flops, flops_per_second)}.",
        f"Generator: {best.generator}, {best.params:,} parameters, {best.steps:,} steps; "
        f"{best.flops - best.tokenizer_flops:.3g} FLOPs{_time(best.flops - best.tokenizer_flops, flops_per_second)}.",
        f"Expected gFMD: {best.gfmd:.2f}; a new run would fall between {best.low:.2f} and {best.high:.2f} (95 %; {best.runs} runs, "
        f"{counted(best.seeds, 'tokenizer seed')}).",
    ]
    other = advice.runner_up
    if other is None:
        return [*lines, "The study has no other tokenizer that can be judged at this budget."]
    lines.append(
        f"Runner-up: {_setting(other.tokenizer)}, with {other.generator} ({other.params:,} parameters) for {other.steps:,} "
        f"steps; expected gFMD {other.gfmd:.2f} ({other.low:.2f} to {other.high:.2f})."
    )
    if other.gfmd < best.gfmd:
        lines.append(
            f"The runner-up may well be better, but rests on {counted(other.seeds, 'tokenizer seed')}: train "
            f"{SEEDS - other.seeds} more of it to know."
        )
    elif advice.surer_flops is None:
        lines.append(f"The two are alike: it would take more than {MANY_SEEDS} seeds of each to tell them apart.")
    elif advice.surer_seeds == 0:
        lines.append("The seeds so far are enough to tell the two apart.")
    else:
        more = counted(advice.surer_seeds or 0, "more seed")
        lines.append(
            f"To be surer which is better, train about {more} of each: {advice.surer_flops:.3g} FLOPs"
            f"{_time(advice.surer_flops, flops_per_second)}."
        )
    return lines


def _setting(setting: dict[str, Any]) -> str:
    crt = "no regularizer"
    if setting["crt_variant"] != "none":
        crt = f"{setting['crt_variant']} with weight {setting['crt_weight']:g} and {setting['crt_layers']} layers"
    codes = setting["codebook_size"]
    latents = (
        f"{setting['num_tokens']:g} vectors"
        if codes is None or math.isnan(codes)
        else (f"{codes:,.0f} codes, {setting['num_tokens']:g} tokens")
    )
    return f"{latents}, {crt} ({setting['tokenizer_choice']})"


def _time(flops: float, rate: float | None) -> str:
    if rate is None:
        return ""
    seconds = flops / rate
    return f" (about {seconds / 3600:.1f} h here)" if seconds > 5400 else f" (about {seconds / 60:.0f} min here)"
