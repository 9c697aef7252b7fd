"""What a claim is, and how an interval settles it. Rules are fixed here and beside each claim, before its runs."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import special

HOLDS, FAILS, OPEN = "holds", "fails", "open"


@dataclass(frozen=True)
class Estimate:
    """A mean over n independent units (seeds), with an interval; without one where n < 2."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Claim:
    """A statement, the rule that judges it, what was found and the verdict.

    `effect`, `low`, `high`: see the rule for the unit; None where there are too few runs.
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
        """Return plain values."""
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
    """Holds where the interval lies below the margin, fails where it lies above it."""
    return HOLDS if found.high < margin else FAILS if found.low > margin else OPEN


def above(found: Estimate, margin: float = 0.0) -> str:
    """Holds where the interval lies above the margin, fails where it lies below it."""
    return HOLDS if found.low > margin else FAILS if found.high < margin else OPEN


def within(found: Estimate, low: float, high: float) -> str:
    """Holds where the interval lies inside (low, high), fails where it lies outside."""
    if low < found.low and found.high < high:
        return HOLDS
    return FAILS if found.high < low or found.low > high else OPEN


def make_claim(claim: str, statement: str, rule: str, found: Estimate, verdict: str, note: str = "") -> Claim:
    """Return a claim; infinite bounds become None, and without any unit it is open."""
    effect, low, high = (value if math.isfinite(value) else None for value in (found.value, found.low, found.high))
    return Claim(claim, statement, rule, effect, low, high, found.n, verdict if found.n else OPEN, note)


def missing_claim(claim: str, statement: str, rule: str, why: str) -> Claim:
    """Return an open claim for which there are no runs."""
    return Claim(claim, statement, rule, None, None, None, 0, OPEN, why)
