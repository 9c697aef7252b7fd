"""Axes of charts: scales from values to pixels, ticks at round numbers, and how numbers are written."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Axis:
    """A scale from the values `low` to `high`, linear or logarithmic, to the pixels `start` to `end`."""

    low: float
    high: float
    log: bool
    start: float
    end: float

    @classmethod
    def of(cls, values: Sequence[float], log: bool, start: float, end: float) -> "Axis":
        """Return a scale that holds these values with a little room; what it cannot show (not finite) is left out."""
        finite = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        if log:
            low, high = (low or 1.0), (high or 1.0)
            margin = max((high / low) ** 0.04, 1.05)
            return cls(low / margin, high * margin, True, start, end)
        margin = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
        return cls(low - margin if low < 0 or low > margin else 0.0, high + margin, False, start, end)

    @classmethod
    def around(cls, values: Sequence[float], log: bool, start: float, end: float) -> "Axis":
        """Return a scale that holds these values with a little room, and need not begin at 0."""
        found = cls.of(values, log, start, end)
        finite = [value for value in values if math.isfinite(value)]
        if log or not finite:
            return found
        margin = (max(finite) - min(finite)) * 0.05 or abs(max(finite)) * 0.1 or 1.0
        return cls(min(finite) - margin, max(finite) + margin, False, start, end)

    def __call__(self, value: float) -> float:
        """Return a value's place in pixels, rounded to a tenth."""
        if self.log:
            value = max(value, self.low)
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, most: int) -> list[float]:
        """Return at most about `most` round values along the scale."""
        if self.log:
            return _log_ticks(self.low, self.high, most)
        return _even_ticks(self.low, self.high, most)


def _even_ticks(low: float, high: float, most: int) -> list[float]:
    step = _nice((high - low) / most)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _nice(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * part for part in (1, 2, 2.5, 5, 10) if power * part >= step * 0.999)


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for parts in ((1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8), (1, 1.5, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [part * 10.0**decade for decade in decades for part in parts if low <= part * 10.0**decade <= high]
        if len(ticks) <= most:
            break
    if len(ticks) > most:
        return ticks[:: -(-len(ticks) // most)]
    return ticks if len(ticks) > 1 else _even_ticks(low, high, max(most, 6))  # of a narrow scale


def number(value: float) -> str:
    """Return a number for an axis or a readout: at most four digits, powers of ten beyond a million."""
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-4:
        return f"{value:.3g}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
