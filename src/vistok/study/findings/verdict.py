"""Claims, and how an interval settles them. The rules were fixed here and with each claim before its runs were made."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import special

HOLDS, FAILS, OPEN = "holds", "fails", "open"


@dataclass(frozen=True)
class Estimate:
    """A mean over n independent units (seeds) with an interval, which is infinite for n < 2."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Claim:
    """A statement, the rule by which it is judged, the evidence and the verdict.

    The rule states the unit of `effect`, `low` and `high`; they are None where there are too few runs.
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

    def as_json(self) -> dict[str, Any]:
        """Return the claim as plain JSON values."""
        return asdict(self)


def mean_of_seeds(values: Sequence[float], confidence: float = 0.95) -> Estimate:
    """Return the mean with its t-interval over seeds."""
    x = np.asarray(values, dtype=np.float64)
    if len(x) == 0:
        return Estimate(math.nan, -math.inf, math.inf, 0)
    mean = float(x.mean())
    if len(x) == 1:
        return Estimate(mean, -math.inf, math.inf, 1)
    half = float(special.stdtrit(len(x) - 1, 0.5 + confidence / 2) * x.std(ddof=1) / math.sqrt(len(x)))
    return Estimate(mean, mean - half, mean + half, len(x))


def below(found: Estimate, margin: float = 0.0) -> str:
    """Return the verdict: holds if the interval is below the margin, fails if it is above, else open."""
    return HOLDS if found.high < margin else FAILS if found.low > margin else OPEN


def above(found: Estimate, margin: float = 0.0) -> str:
    """Return the verdict: holds if the interval is above the margin, fails if it is below, else open."""
    return HOLDS if found.low > margin else FAILS if found.high < margin else OPEN


def within(found: Estimate, low: float, high: float) -> str:
    """Return the verdict: holds if the interval is inside (low, high), fails if it is outside, else open."""
    if low < found.low and found.high < high:
        return HOLDS
    return FAILS if found.high < low or found.low > high else OPEN


def make_claim(claim: str, statement: str, rule: str, found: Estimate, verdict: str, note: str = "") -> Claim:
    """Return a claim; infinite bounds become None. Fewer than two units leave it open, whatever its interval says.

    With one seed, an interval holds the noise of the scored samples alone; tokenizers of other seeds differ by far more.
    """
    effect, low, high = (value if math.isfinite(value) else None for value in (found.value, found.low, found.high))
    if found.n == 1 and verdict != OPEN:
        note = "; ".join(filter(None, (note, f"exploratory: one seed, whose samples alone would say {verdict!r}")))
    return Claim(claim, statement, rule, effect, low, high, found.n, verdict if found.n > 1 else OPEN, note)


def missing_claim(claim: str, statement: str, rule: str, why: str) -> Claim:
    """Return a claim that stays open because there are no runs for it."""
    return Claim(claim, statement, rule, None, None, None, 0, OPEN, why)
