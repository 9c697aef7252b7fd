"""Advice for a budget, from a study's table: which tokenizer and which generator to train, and for how long.

For each tokenizer setting and generator size, gFMD follows a law in the generator's training FLOPs (`fit.py`), or is known at a
few lengths alone (`offers.py`). A budget first pays for the tokenizer, and the rest buys steps. The lowest expected gFMD wins.
"""

import math
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from scipy import special

from vistok.errors import UserError, are, counted
from vistok.study.findings.advice_source import AdviceSource
from vistok.study.findings.as_command import train_words
from vistok.study.findings.offers import BELIEVED, BETWEEN_TOKENIZERS, REACH, SEEDS, Offer, Option, offers, scored
from vistok.study.findings.table import generators
from vistok.study.run.record import OTHERS
from vistok.units import flops_in, seconds_in, steps

# A share of the budget below which it is said how little is spent.
MUCH = 0.8
# Standard normal quantile of 80 % power.
POWER = 0.8416
# If it takes more seeds than this to tell two options apart, they count as alike.
MANY_SEEDS = 100


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


def advise(table: pd.DataFrame, budget: float) -> Advice:
    """Return advice for a budget, in FLOPs for both stages; see `choose`."""
    return choose(offers(table), budget)


def choose(offered: Sequence[Offer], budget: float, rate: float | None = None) -> Advice:
    """Return advice for a budget, in FLOPs for both stages; given a rate (FLOPs a second), errors state times, too.

    The lowest expected gFMD wins, with the reserve of `rank` for tokenizers with fewer than three seeds; the runner-up is the
    lowest of another tokenizer.

    Raises UserError where there are no runs, or where the budget does not cover any tokenizer and its shortest run.
    """
    if not (math.isfinite(budget) and budget > 0):
        raise UserError(f"the budget must be above 0 FLOPs, found {budget:g}")
    low, high = covered(offered)
    options = [option for offer in offered if (option := offer.option(budget)) is not None]
    if not options:
        raise UserError(
            f"a budget of {budget:.3g} FLOPs does not cover the cheapest tokenizer of this study with its shortest generator "
            f"({low:.3g}{_time(low, rate)}), and of shorter runs the study says nothing; give {low:.3g} "
            f"{f'to {high:.3g}' if high > low else 'or more'}"
        )
    ranked = rank(options)
    best = ranked[0]
    own = best.tokenizer["tokenizer_choice"]
    others = [option for option in ranked if option.tokenizer["tokenizer_choice"] != own]
    seeds, flops = _surer(best, others[0]) if others else (None, None)
    return Advice(budget, best, others[0] if others else None, seeds, flops, best.supported, low, high)


def rank(options: Sequence[Option]) -> list[Option]:
    """Return options, the one to advise first, then those with the lowest expected gFMD.

    The best of many options with few seeds is often a lucky one: to be advised, the upper end of its interval must lie below that
    of the best option with three seeds by as much as tokenizers of one setting differ.
    """
    by_expected = sorted(options, key=lambda one: one.gfmd)
    sure = next((one for one in by_expected if one.seeds >= SEEDS), None)
    surest = min((one for one in options if one.seeds < SEEDS or one is sure), key=_cautious)
    return [surest, *(one for one in by_expected if one is not surest)]


def _cautious(option: Option) -> float:
    return option.high * (math.exp(BETWEEN_TOKENIZERS) if option.seeds < SEEDS else 1.0)


def covered(offered: Sequence[Offer]) -> tuple[float, float]:
    """Return the budgets (FLOPs) of which a study says something. Raises UserError where it has no generators."""
    if not offered:
        raise UserError("this study has no generator yet, so there is nothing to go by; run more of the study first")
    return min(offer.ends[0] for offer in offered), max(offer.ends[1] for offer in offered)


def _surer(best: Option, other: Option) -> tuple[int | None, float | None]:
    """Return (further seeds of each, FLOPs) after which the 95 % interval of their ratio would exclude 1 four times in five.

    At least two seeds are needed in all, since one says nothing about how tokenizers of the same setting vary.
    """
    gap = math.log(other.gfmd / best.gfmd)
    variance = best.scatter**2 + other.scatter**2
    if gap <= 0:
        return None, None
    needed = next((n for n in range(2, MANY_SEEDS + 1) if gap >= _detectable(variance, n)), None)
    if needed is None:
        return None, None
    further = max(0, needed - min(best.seeds, other.seeds))
    return further, further * (best.flops + other.flops)


def _detectable(variance: float, seeds: int) -> float:
    """Return the log ratio that a 95 % t-interval over so many seeds of each excludes from 0 four times in five."""
    return (float(special.stdtrit(2 * seeds - 2, 0.975)) + POWER) * math.sqrt(variance / seeds)


def advice_commands(advice: Advice, source: AdviceSource) -> list[str]:
    """Return the commands that train what is advised: those of the table, or from recipes; none where these are not known."""
    best = advice.best
    if named := source.commands(best.generator):
        return named
    tokenizer = source.tokenizer(str(best.tokenizer["tokenizer_choice"]))
    generator = source.generator(best.generator)
    if tokenizer is None or generator is None:
        return []
    words = train_words(tokenizer), train_words(generator.replace(length=steps(best.steps)))
    if words[0] is None or words[1] is None:
        return []
    *start, name = words[1][:4]
    return [shlex.join(words[0]), shlex.join([*start, name, "--tokenizer", "latest", *words[1][4:]])]


def parse_budget(text: str) -> tuple[float, str]:
    """Return (number, "flops" or "seconds") from text like "2e14 flops" or "1h30m"; raises UserError if it is anything else."""
    seconds = seconds_in(text)
    if seconds is not None:
        return seconds, "seconds"
    flops = flops_in(text) or flops_in(f"{text} flops")
    if flops is None:
        raise UserError(
            f'--budget {text!r}: give a number above 0 and a unit, as in "2e14 flops", "200 TFLOPs", "3 hours", "20 minutes" or '
            '"2 days"'
        )
    return flops, "flops"


def advice_lines(
    advice: Advice, flops_per_second: float | None = None, source: AdviceSource | None = None
) -> list[str]:
    """Return the advice in sentences; given a rate, they also state times.

    Steps are not told where the source's table names commands, as that of shortcuts does: they are then steps of drawing, which the
    names say.
    """
    best = advice.best
    trained = source is None or not source.commands(best.generator)
    lines = _reservations(advice, source)
    lines += [
        f"Tokenizer: {_setting(best.tokenizer)}; {best.tokenizer_flops:.3g} FLOPs{_time(best.tokenizer_flops, flops_per_second)}.",
        f"Generator: {best.generator}, {best.params:,} parameters{_steps(', ', best, trained)}; "
        f"{best.flops - best.tokenizer_flops:.3g} FLOPs{_time(best.flops - best.tokenizer_flops, flops_per_second)}.",
        f"Expected gFMD: {best.gfmd:.2f}; a new run would fall between {best.low:.2f} and {best.high:.2f} (95 %; {counted(best.runs, 'run')}, "
        f"{counted(best.seeds, 'tokenizer seed')}).",
    ]
    other = advice.runner_up
    if other is None:
        return [*lines, "The study has no other tokenizer that can be judged at this budget."]
    lines.append(
        f"Runner-up: {_setting(other.tokenizer)}, with {other.generator} ({other.params:,} parameters)"
        f"{_steps(' for ', other, trained)}; expected gFMD {other.gfmd:.2f} ({other.low:.2f} to {other.high:.2f})"
        f"{', by extrapolation' if other.beyond else ''}."
    )
    if other.gfmd < best.gfmd:
        lines.append(
            f"The runner-up may well be better, but rests on {counted(other.seeds, 'tokenizer seed')}: train {SEEDS - other.seeds} "
            "more of it to know."
        )
    elif advice.surer_flops is None:
        lines.append(f"The two are alike: it would take more than {MANY_SEEDS} seeds of each to tell them apart.")
    elif advice.surer_seeds == 0:
        lines.append(
            "By how far runs scatter about their laws, the seeds so far should tell the two apart; whether they do, paired by seed, "
            "is for the study's claims to say."
        )
    else:
        more = counted(advice.surer_seeds or 0, "more seed")
        lines.append(
            f"To be surer which is better, train about {more} of each: {advice.surer_flops:.3g} FLOPs"
            f"{_time(advice.surer_flops, flops_per_second)}."
        )
    return lines


def _reservations(advice: Advice, source: AdviceSource | None) -> list[str]:
    """Return what is to be known before the advice: runs left out, a budget not spent, a law beyond its runs."""
    best, lines = advice.best, []
    if source is not None and (unscored := len(generators(source.table)) - len(scored(source.table))):
        lines.append(
            f"{counted(unscored, 'run')} without a score, or with an unknown cost of either stage, {are(unscored)} left out."
        )
    if not advice.supported:
        longer = f"more than {REACH:g} times as long as" if best.seeds >= SEEDS else "longer than"
        on = "" if best.seeds >= SEEDS else f" on {counted(best.seeds, 'tokenizer seed')}"
        lines.append(
            f"This spends {best.flops:.3g} of {advice.budget:.3g} FLOPs: of generators that are trained for {longer} the study's longest, "
            f"its runs{on} say nothing."
        )
    elif best.flops < MUCH * advice.budget:
        lines.append(
            f"This spends {best.flops:.3g} of {advice.budget:.3g} FLOPs: nothing that the study has promises a lower gFMD for more."
        )
    if best.beyond:
        lines.append(
            "No run of this generator on this tokenizer was as long: what follows goes by an extrapolation of its law, of whose "
            f"promises {BELIEVED:.0%} are believed: about as much as came true on Fashion-MNIST."
        )
    return lines


def _steps(before: str, option: Option, trained: bool) -> str:
    return f"{before}{counted(option.steps, 'step')}" if trained else ""


def _setting(setting: dict[str, Any]) -> str:
    parts = []
    if setting["crt_variant"] != "none":
        parts = [f"{setting['crt_variant']} with weight {setting['crt_weight']:g} and {setting['crt_layers']} layers"]
    if isinstance(others := setting.get(OTHERS), str):
        parts.append(others)
    codes = setting["codebook_size"]
    latents = (
        f"{setting['num_tokens']:g} vectors"
        if codes is None or math.isnan(codes)
        else (f"{codes:,.0f} codes, {setting['num_tokens']:g} tokens")
    )
    return f"{latents}, {' and '.join(parts) or 'no regularizer'} ({setting['tokenizer_choice']})"


def _time(flops: float, rate: float | None) -> str:
    if rate is None:
        return ""
    seconds = flops / rate
    return f" (about {seconds / 3600:.1f} h here)" if seconds > 5400 else f" (about {seconds / 60:.0f} min here)"
