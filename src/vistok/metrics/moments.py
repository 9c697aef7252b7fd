"""Streaming mean and covariance in float64, which can be merged (Chan, Golub, LeVeque 1979)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg.blas import dger


@dataclass(frozen=True)
class Moments:
    """Count, mean (features,) and scatter (features, features), the sum of products of deviations from the mean."""

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> "Moments":
        """Return the moments of (samples, features); raises ValueError for non-finite values."""
        x = np.asarray(features, dtype=np.float64)
        if x.ndim != 2 or not np.isfinite(x).all():
            raise ValueError(f"features must be finite (samples, features), found shape {x.shape}")
        mean = x.mean(axis=0)
        centred = x - mean
        return cls(len(x), mean, centred.T @ centred)

    @classmethod
    def empty(cls, dim: int) -> "Moments":
        """Return the moments of zero samples."""
        return cls(0, np.zeros(dim), np.zeros((dim, dim)))

    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of both sets together."""
        if other.count == 0:
            return self
        if self.count == 0:
            return other
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        scatter = self.scatter + other.scatter
        # In place, as these are large. The routine takes columns first, which is the same for a symmetric matrix.
        scatter = dger(self.count * other.count / count, delta, delta, a=scatter.T, overwrite_a=True).T
        return Moments(count, mean, scatter)

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased covariance; raises ValueError for fewer than two samples."""
        return self.scatter / self._freedom

    @property
    def total_variance(self) -> float:
        """The trace of the covariance; raises ValueError for fewer than two samples."""
        return float(np.trace(self.scatter)) / self._freedom

    @property
    def _freedom(self) -> int:
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 samples, found {self.count}")
        return self.count - 1


def merge_all(parts: Sequence[Moments]) -> Moments:
    """Return the moments of all parts together."""
    total = Moments.empty(len(parts[0].mean))
    for part in parts:
        total = total.merge(part)
    return total


def leave_one_out(parts: Sequence[Moments]) -> list[Moments]:
    """Return, for each part, the moments of all other parts."""
    empty = Moments.empty(len(parts[0].mean))
    before, after = [empty], [empty]
    for part in parts[:-1]:
        before.append(before[-1].merge(part))
    for part in reversed(parts[1:]):
        after.append(after[-1].merge(part))
    return [b.merge(a) for b, a in zip(before, reversed(after), strict=True)]
