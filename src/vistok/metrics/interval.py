"""Intervals: a delete-a-group jackknife over shuffled blocks of samples, and t-intervals over seeds.

Resampling with replacement would inflate a Fréchet distance, since repeated samples narrow the covariance.
Leaving out blocks does not, and it also corrects the bias of a finite sample.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from vistok.metrics.frechet import covariance_factor, frechet_distance, sample_factor
from vistok.metrics.moments import Moments, leave_one_out, merge_all
from vistok.metrics.seeds import t_bounds
from vistok.rng import numpy_generator

BLOCKS = 20


@dataclass(frozen=True)
class Interval:
    """An estimate with a 95 % interval: `value` is the plain estimate, `corrected` has its bias removed."""

    value: float
    corrected: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


@dataclass(frozen=True)
class Replicates:
    """An estimate from all samples, and one with each block left out; no replicates where there are too few samples."""

    value: float
    left_out: tuple[float, ...] = ()

    @property
    def interval(self) -> Interval | None:
        """The jackknife interval, or None without replicates."""
        return jackknife(self.value, self.left_out) if self.left_out else None

    def minus(self, other: "Replicates") -> "Replicates":
        """Return the difference, paired block by block: each replicate leaves the same samples out of both."""
        if len(self.left_out) != len(other.left_out):
            return Replicates(self.value - other.value)
        pairs = zip(self.left_out, other.left_out, strict=True)
        return Replicates(self.value - other.value, tuple(a - b for a, b in pairs))


def blocks_of(count: int, blocks: int = BLOCKS) -> list[np.ndarray]:
    """Return the indices 0...count-1 in disjoint blocks: shuffled, but the same on every call.

    Images are often sorted by class, and unshuffled blocks would not resemble the whole.
    """
    return np.array_split(numpy_generator(0, "blocks").permutation(count), blocks)


def jackknife(full: float, left_out: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return the bias-corrected delete-a-group jackknife interval (Shao and Wu 1989)."""
    values = np.asarray(left_out, dtype=np.float64)
    groups = len(values)
    corrected = groups * full - (groups - 1) * values.mean()
    error = math.sqrt((groups - 1) / groups * np.square(values - values.mean()).sum())
    half = float(special.stdtrit(groups - 1, 0.5 + confidence / 2)) * error
    return Interval(float(full), float(corrected), float(corrected - half), float(corrected + half))


def mean_replicates(values: np.ndarray) -> Replicates:
    """Return the replicates of a mean over samples."""
    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2 * BLOCKS:
        return Replicates(float(x.mean()))
    left = [(x.sum() - x[block].sum()) / (len(x) - len(block)) for block in blocks_of(len(x))]
    return Replicates(float(x.mean()), tuple(map(float, left)))


def frechet_replicates(features: np.ndarray, reference: Moments) -> Replicates:
    """Return the Fréchet distance between samples (samples, features) and a fixed reference."""
    factor = covariance_factor(reference.covariance)
    if len(features) < 2 * BLOCKS:
        return Replicates(frechet_distance(Moments.of(features), reference, factor, sample_factor(features)))
    blocks, factors = _block_moments(features), _left_out_factors(features)
    left = tuple(
        frechet_distance(part, reference, factor, kept)
        for part, kept in zip(leave_one_out(blocks), factors, strict=True)
    )
    return Replicates(frechet_distance(merge_all(blocks), reference, factor, sample_factor(features)), left)


def paired_frechet_replicates(features: np.ndarray, reference: np.ndarray) -> Replicates:
    """Return the Fréchet distance between reconstructions and their originals.

    Row i of one corresponds to row i of the other, so each block is left out of both.
    """
    factors = sample_factor(reference), sample_factor(features)
    if len(features) < 2 * BLOCKS:
        return Replicates(frechet_distance(Moments.of(features), Moments.of(reference), *factors))
    of_features, of_reference = _block_moments(features), _block_moments(reference)
    pairs = zip(
        leave_one_out(of_features),
        leave_one_out(of_reference),
        _left_out_factors(reference),
        _left_out_factors(features),
        strict=True,
    )
    left = tuple(frechet_distance(*pair) for pair in pairs)
    return Replicates(frechet_distance(merge_all(of_features), merge_all(of_reference), *factors), left)


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return the mean of independent values (one per seed) with its t-interval, infinite for a single value."""
    mean, low, high = t_bounds(values, confidence)
    return Interval(mean, mean, low, high)


def _left_out_factors(features: np.ndarray) -> list[np.ndarray | None]:
    """Return, for each block, the covariance factor of all other samples (None where there are many)."""
    return [sample_factor(np.delete(features, block, axis=0)) for block in blocks_of(len(features))]


def _block_moments(features: np.ndarray) -> list[Moments]:
    return [Moments.of(features[block]) for block in blocks_of(len(features))]
