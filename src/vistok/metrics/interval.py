"""Intervals: delete-a-group jackknife over mixed blocks of samples, t-intervals over seeds.

Resampling with replacement inflates a Fréchet distance (repeated samples narrow the covariance);
leaving out blocks does not, and also corrects the bias of a finite sample.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from vistok.metrics.frechet import covariance_factor, frechet_distance, sample_factor
from vistok.metrics.moments import Moments, leave_one_out, merge_all
from vistok.rng import numpy_generator

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


@dataclass(frozen=True)
class Replicates:
    """An estimate of all samples, and of all but each block; no replicates where samples are too few."""

    value: float
    left_out: tuple[float, ...] = ()

    @property
    def interval(self) -> Interval | None:
        """The jackknife interval, or None without replicates."""
        return jackknife(self.value, self.left_out) if self.left_out else None

    def minus(self, other: "Replicates") -> "Replicates":
        """Return the difference, paired block by block: it leaves out the same samples of both."""
        if len(self.left_out) != len(other.left_out):
            return Replicates(self.value - other.value)
        pairs = zip(self.left_out, other.left_out, strict=True)
        return Replicates(self.value - other.value, tuple(a - b for a, b in pairs))


def blocks_of(count: int, blocks: int = BLOCKS) -> list[np.ndarray]:
    """Return the numbers 0...count-1 in disjoint blocks, mixed, and the same ones every time.

    Images often come sorted by class: blocks in their order would not be like the whole.
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
    """Return the mean of one value per sample."""
    x = np.asarray(values, dtype=np.float64)
    if len(x) < 2 * BLOCKS:
        return Replicates(float(x.mean()))
    left = [(x.sum() - x[block].sum()) / (len(x) - len(block)) for block in blocks_of(len(x))]
    return Replicates(float(x.mean()), tuple(map(float, left)))


def frechet_replicates(features: np.ndarray, reference: Moments) -> Replicates:
    """Return the Fréchet distance of samples (samples, features) to a fixed reference."""
    factor = covariance_factor(reference.covariance)
    if len(features) < 2 * BLOCKS:
        return Replicates(frechet_distance(Moments.of(features), reference, factor, sample_factor(features)))
    blocks, own = _block_moments(features), _left_out_factors(features)
    left = tuple(
        frechet_distance(part, reference, factor, mine) for part, mine in zip(leave_one_out(blocks), own, strict=True)
    )
    return Replicates(frechet_distance(merge_all(blocks), reference, factor, sample_factor(features)), left)


def paired_frechet_replicates(features: np.ndarray, reference: np.ndarray) -> Replicates:
    """Return the Fréchet distance of reconstructions to their own originals.

    Row i of one belongs to row i of the other, so a block is left out of both.
    """
    factors = sample_factor(reference), sample_factor(features)
    if len(features) < 2 * BLOCKS:
        return Replicates(frechet_distance(Moments.of(features), Moments.of(reference), *factors))
    own, theirs = _block_moments(features), _block_moments(reference)
    pairs = zip(
        leave_one_out(own),
        leave_one_out(theirs),
        _left_out_factors(reference),
        _left_out_factors(features),
        strict=True,
    )
    left = tuple(frechet_distance(*pair) for pair in pairs)
    return Replicates(frechet_distance(merge_all(own), merge_all(theirs), *factors), left)


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return the mean of independent values (one per seed) with its t-interval; infinite for one value."""
    x = np.asarray(values, dtype=np.float64)
    mean = float(x.mean())
    if len(x) < 2:
        return Interval(mean, mean, -math.inf, math.inf)
    half = float(special.stdtrit(len(x) - 1, 0.5 + confidence / 2) * x.std(ddof=1) / math.sqrt(len(x)))
    return Interval(mean, mean, mean - half, mean + half)


def _left_out_factors(features: np.ndarray) -> list[np.ndarray | None]:
    """Return the factors of all samples but each block, where they are few."""
    return [sample_factor(np.delete(features, block, axis=0)) for block in blocks_of(len(features))]


def _block_moments(features: np.ndarray) -> list[Moments]:
    return [Moments.of(features[block]) for block in blocks_of(len(features))]
