"""Intervals: delete-a-group jackknife for a Fréchet distance, t-intervals over seeds.

Resampling with replacement inflates a Fréchet distance (repeated samples narrow the covariance);
leaving out blocks does not, and also corrects the bias of a finite sample.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from vistok.metrics.frechet import covariance_factor, frechet_distance
from vistok.metrics.moments import Moments, leave_one_out, merge_all

BLOCKS = 20


@dataclass(frozen=True)
class Interval:
    """An estimate with a 95 % interval; `value` is the plain estimate, `corrected` without its bias."""

    value: float
    corrected: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2


def block_moments(features: np.ndarray, blocks: int = BLOCKS) -> list[Moments]:
    """Return the moments of consecutive blocks.

    Each block must be like the whole: samples in random order, or with their classes in turn.
    """
    if len(features) < 2 * blocks:
        raise ValueError(f"an interval over {blocks} blocks needs at least {2 * blocks} samples, found {len(features)}")
    return [Moments.of(block) for block in np.array_split(features, blocks)]


def jackknife(full: float, left_out: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return the bias-corrected delete-a-group jackknife interval (Shao and Wu 1989)."""
    values = np.asarray(left_out, dtype=np.float64)
    groups = len(values)
    corrected = groups * full - (groups - 1) * values.mean()
    error = math.sqrt((groups - 1) / groups * np.square(values - values.mean()).sum())
    half = float(stats.t.ppf(0.5 + confidence / 2, groups - 1)) * error
    return Interval(float(full), float(corrected), float(corrected - half), float(corrected + half))


def frechet_replicates(blocks: Sequence[Moments], reference: Moments) -> tuple[float, list[float]]:
    """Return the distance of all blocks together, and of all but each one."""
    factor = covariance_factor(reference.covariance)
    full = frechet_distance(merge_all(blocks), reference, factor)
    return full, [frechet_distance(part, reference, factor) for part in leave_one_out(blocks)]


def frechet_interval(features: np.ndarray, reference: Moments) -> Interval:
    """Return the Fréchet distance of samples (samples, features) to a fixed reference, with its interval."""
    return jackknife(*frechet_replicates(block_moments(features), reference))


def difference_interval(a: np.ndarray, b: np.ndarray, reference: Moments) -> Interval:
    """Return the interval of distance(b) - distance(a), paired by sample number.

    It holds the noise of drawing samples, not of training again with another seed.
    """
    full_a, left_a = frechet_replicates(block_moments(a), reference)
    full_b, left_b = frechet_replicates(block_moments(b), reference)
    return jackknife(full_b - full_a, [y - x for x, y in zip(left_a, left_b, strict=True)])


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return the mean of independent values (one per seed) with its t-interval; infinite for one value."""
    x = np.asarray(values, dtype=np.float64)
    mean = float(x.mean())
    if len(x) < 2:
        return Interval(mean, mean, -math.inf, math.inf)
    half = float(stats.t.ppf(0.5 + confidence / 2, len(x) - 1) * x.std(ddof=1) / math.sqrt(len(x)))
    return Interval(mean, mean, mean - half, mean + half)
