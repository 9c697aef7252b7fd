"""Claims, and how an interval settles them.

The rules were fixed here and with each claim before its runs were made; one that is exploratory, or has changed since, says so.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vistok.metrics.seeds import t_bounds

HOLDS, FAILS, OPEN = "holds", "fails", "open"
# How a rule begins that is not the one of before the runs.
CHANGED = "changed after the first runs"
# Units of effects. Natural logarithms of ratios are shown as the ratios.
LOG_RATIO, RATIO, SHARE, NATS, SLOPE, LOG10 = (
    "log ratio", "ratio", "share", "nats per token", "slope", "log10 FLOPs",
)  # fmt: skip


class Verdict(str):
    """`holds`, `fails` or `open`; `margins` are the values that the interval was compared with."""

    margins: tuple[float, ...]

    def __new__(cls, word: str, *margins: float) -> "Verdict":
        """Return the verdict of this word."""
        verdict = super().__new__(cls, word)
        verdict.margins = margins
        return verdict


@dataclass(frozen=True)
class Estimate:
    """A mean over n independent units (seeds) with an interval, which is infinite for n < 2."""

    value: float
    low: float
    high: float
    n: int
    confidence: float = 0.95


@dataclass(frozen=True)
class Measure:
    """What an effect is: a quantity in a few words, and its unit."""

    quantity: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Claim:
    """A statement, the rule by which it is judged, the evidence and the verdict.

    `effect`, `low` and `high` are None where there are too few runs. `quantity` says in a few words what they are, `unit` in what
    they are counted, and `margins` what the interval, of this `confidence`, was compared with.
    """

    claim: str
    statement: str
    rule: str
    effect: float | None
    low: float | None
    high: float | None
    n: int
    verdict: str
    note: str = ""
    quantity: str = ""
    unit: str = ""
    margins: tuple[float, ...] = ()
    confidence: float = 0.95

    def as_json(self) -> dict[str, Any]:
        """Return the claim as plain JSON values."""
        return asdict(self)


def mean_of_seeds(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Return the mean with its t-interval over seeds."""
    if not len(values):
        return Estimate(math.nan, -math.inf, math.inf, 0, confidence)
    return Estimate(*t_bounds(values, confidence), len(values), confidence)


def as_ratio(logs: Estimate) -> Estimate:
    """Return an estimate of logarithms of ratios as one of ratios; infinite bounds stay infinite."""
    low, high = (math.exp(min(bound, 700)) if math.isfinite(bound) else bound for bound in (logs.low, logs.high))
    return Estimate(math.exp(logs.value), low, high, logs.n, logs.confidence)


def below(found: Estimate, margin: float = 0.0) -> Verdict:
    """Return the verdict: holds if the interval is below the margin, fails if it is above, else open."""
    return Verdict(HOLDS if found.high < margin else FAILS if found.low > margin else OPEN, margin)


def above(found: Estimate, margin: float = 0.0) -> Verdict:
    """Return the verdict: holds if the interval is above the margin, fails if it is below, else open."""
    return Verdict(HOLDS if found.low > margin else FAILS if found.high < margin else OPEN, margin)


def within(found: Estimate, low: float, high: float) -> Verdict:
    """Return the verdict: holds if the interval is inside (low, high), fails if it is outside, else open."""
    if low < found.low and found.high < high:
        return Verdict(HOLDS, low, high)
    return Verdict(FAILS if found.high < low or found.low > high else OPEN, low, high)


def make_claim(
    claim: str,
    statement: str,
    rule: str,
    found: Estimate,
    verdict: Verdict,
    note: str = "",
    measure: Measure = Measure(),
    seeds: int | None = None,
) -> Claim:
    """Return a claim; infinite bounds become None. Fewer than two seeds leave it open, whatever its interval says.

    With one seed, an interval holds the noise of the scored samples alone; tokenizers of other seeds differ by far more. `seeds`
    says of how many tokenizer seeds the units are, where they are no seeds themselves but runs or budgets.
    """
    seeds = found.n if seeds is None else min(seeds, found.n)
    effect, low, high = (value if math.isfinite(value) else None for value in (found.value, found.low, found.high))
    if seeds == 1 and verdict != OPEN:
        units = "samples" if found.n == 1 else "runs"
        note = "; ".join(filter(None, (note, f"exploratory: one seed, whose {units} alone would say {str(verdict)!r}")))
    return Claim(
        claim, statement, rule, effect, low, high, found.n, str(verdict) if seeds > 1 else OPEN, note,
        measure.quantity, measure.unit, verdict.margins, found.confidence,
    )  # fmt: skip


def missing_claim(claim: str, statement: str, rule: str, why: str) -> Claim:
    """Return a claim that stays open because there are no runs for it."""
    return Claim(claim, statement, rule, None, None, None, 0, OPEN, why)
