"""The second purse: what an image costs to draw, in milliseconds or FLOPs, by the runs of a study."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from vistok.errors import UserError, counted
from vistok.study.findings.advice_source import AdviceSource
from vistok.study.findings.image_cost import COLUMNS, PerImage, Unit, in_words
from vistok.study.findings.offers import Offer, Option, Point
from vistok.study.findings.table import generators

# Pairs that a sentence names; the others are counted.
NAMED = 3
# Said of a cost for an image where nobody named a study, so that nobody takes one family's answer for all.
OTHER_FAMILIES = (
    "All of these generators are autoregressive. Others stand beside them in --study tokens_study (masked, flow) and --study "
    "continuous_study (flow)."
)
# Said where nobody named a study: the default one leaves open what fresh seeds have settled.
MORE_SEEDS = "On the causal regularizer alone, --study fashion_decisive_study has six to twelve tokenizer seeds that this one has not used."

Pair = tuple[str, str]


def pair_of(one: Offer | Option) -> Pair:
    """Return the names of the tokenizer and the generator."""
    setting = one.tokenizer if isinstance(one, Option) else one.setting
    return str(setting["tokenizer_choice"]), one.generator


def cost_of(one: Offer | Option, table: pd.DataFrame, unit: Unit) -> float | None:
    """Return what an image of an offer costs; None where it is not recorded.

    It is the median of the offer's own runs where these have one length, as guidance differs between lengths; else of its pair's.
    """
    known = runs_of(one, _recorded(table, unit))
    return float(known[COLUMNS[unit]].median()) if len(known) else None


def runs_of(one: Offer | Option, rows: pd.DataFrame) -> pd.DataFrame:
    """Return a pair's rows of generators: those of one length if that is what was offered, or bought."""
    tokenizer, generator = pair_of(one)
    mine = rows[(rows.tokenizer_choice == tokenizer) & (rows.choice == generator)]
    of_length = mine[mine.steps == one.steps] if isinstance(one, Point | Option) else mine
    return of_length if len(of_length) else mine


def _recorded(table: pd.DataFrame, unit: Unit) -> pd.DataFrame:
    rows = generators(table)
    return rows[rows[COLUMNS[unit]].notna()] if COLUMNS[unit] in rows else rows[:0]


@dataclass(frozen=True)
class Sieved:
    """Offers within a limit, those whose images cost more (with their cost), and those whose cost is not recorded."""

    limit: PerImage | None
    kept: tuple[Offer, ...]
    dear: tuple[tuple[Offer, float], ...] = ()
    unknown: tuple[Offer, ...] = ()

    def left_out(self) -> list[str]:
        """Return sentences on what the limit left out."""
        if self.limit is None:
            return []
        lines = []
        # Of a pair with an offer for each of its lengths the cheapest is named, and none if another is within the limit.
        kept = {pair_of(offer) for offer in self.kept}
        dear: dict[Pair, float] = {}
        for offer, cost in self.dear:  # the cheapest come first
            if pair_of(offer) not in kept:
                dear.setdefault(pair_of(offer), cost)
        if dear:
            pairs = list(dear)
            named = [f"{_called(pair)} ({_above(self.limit, dear[pair])})" for pair in pairs[:NAMED]]
            more = f" and {len(pairs) - NAMED} more" if len(pairs) > NAMED else ""
            lines.append(f"Left out, as an image costs more than {self.limit}: {', '.join(named)}{more}.")
        if unknown := len({pair_of(offer) for offer in self.unknown}):
            lines.append(
                f"{counted(unknown, 'pair')} whose cost for an image is not recorded "
                f"{'is' if unknown == 1 else 'are'} left out, too."
            )
        return lines


def _above(limit: PerImage, cost: float) -> str:
    """Return a cost above a limit, which rounding would not set it above."""
    text = in_words(cost, limit.unit)
    return "a little more" if text == str(limit) else text


def _called(pair: Pair) -> str:
    return f"{pair[1]} on {pair[0]}"


def sieve(offered: Sequence[Offer], table: pd.DataFrame, limit: PerImage | None) -> Sieved:
    """Return which curves draw an image within a limit; None: all do. Raises UserError if none does."""
    if limit is None:
        return Sieved(None, tuple(offered))
    taken = [(curve, cost_of(curve, table, limit.unit)) for curve in offered]
    kept = tuple(curve for curve, cost in taken if cost is not None and cost <= limit.amount)
    dear = sorted(
        ((curve, cost) for curve, cost in taken if cost is not None and cost > limit.amount), key=lambda one: one[1]
    )
    if kept:
        return Sieved(limit, kept, tuple(dear), tuple(curve for curve, cost in taken if cost is None))
    what = "milliseconds" if limit.unit == "ms" else "FLOPs"
    if not dear:
        raise UserError(
            f"this study does not record the {what} of an image (no column {COLUMNS[limit.unit]} in its table), so they cannot be "
            "limited; leave the limit out, or run a study with this version"
        )
    cheapest, least = dear[0]
    raise UserError(
        f"no generator of this study draws an image in {limit}; the cheapest that was measured is {_called(pair_of(cheapest))}, "
        f"with {_above(limit, least)}"
    )


def drawn(source: AdviceSource, option: Option) -> dict[str, Any]:
    """Return how an option's images are drawn and what one costs: family, guidance_scale, milliseconds, FLOPs; None if not known."""
    mine = runs_of(option, generators(source.table))
    config, scales = source.generator(option.generator), mine.guidance_scale.dropna()
    return {
        "family": None if config is None else config.generator.kind,
        "guidance_scale": float(scales.median()) if len(scales) else None,
        **{column: cost_of(option, source.table, unit) for unit, column in COLUMNS.items()},
    }


def image_lines(source: AdviceSource, option: Option, sieved: Sieved) -> list[str]:
    """Return sentences on how an option's images are drawn, what one costs, and what a limit left out."""
    facts, lines = drawn(source, option), []
    if facts["guidance_scale"] is not None:
        family = f"{facts['family']} generator" if facts["family"] else "generator"
        lines.append(f"Guidance: {facts['guidance_scale']:g}, as the runs of this {family} chose.")
    known = [in_words(facts[column], unit) for unit, column in COLUMNS.items() if facts[column] is not None]
    lines.append(
        f"An image takes {' and '.join(known)}, by the study's table."
        if known
        else "What an image costs is not recorded in this study's table (no columns ms_per_image, flops_per_image)."
    )
    return [*lines, *sieved.left_out()]
