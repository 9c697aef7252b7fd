"""Fréchet distance between two Gaussians, correct for singular covariances too."""

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg.lapack import dpstrf

from vistok.metrics.moments import Moments

if TYPE_CHECKING:
    from torch import Tensor

# A squared Cholesky pivot below this share of the largest one may be a rounded zero.
WELL_CONDITIONED = 1e-8
# A relative error that no score shows: features have seven digits.
NEGLIGIBLE = 1e-6


def covariance_factor(covariance: np.ndarray) -> np.ndarray:
    """Return A (features, rank) with A A^T = covariance; directions without variance are dropped."""
    import torch  # here, as intervals and stored scores need this module without it

    symmetric = (covariance + covariance.T) / 2
    # Ten times faster than an eigendecomposition; torch's linear algebra beats numpy's (benchmarks/frechet.py).
    lower, failed = torch.linalg.cholesky_ex(torch.from_numpy(symmetric))
    pivots = lower.diagonal() ** 2
    if not failed and len(pivots) and pivots.min() > WELL_CONDITIONED * pivots.max():
        return lower.numpy()
    # Pivoted Cholesky stops once only rounding error remains (n eps times the largest variance); the root of that error
    # would not be small. The lower the rank, the sooner it stops.
    pivoted, order, rank, _ = dpstrf(symmetric, lower=1)
    factor = np.empty((len(symmetric), rank))
    factor[order - 1] = np.tril(pivoted)[:, :rank]
    return factor


def sample_factor(features: np.ndarray) -> np.ndarray | None:
    """Return the covariance factor (features, samples - 1) where there are no more samples than features, else None.

    Its columns are contrasts of each sample with the mean of those before it (Helmert 1876): no decomposition is needed,
    and none of them follows from the others, as one of the centred samples would.
    """
    x = np.asarray(features, dtype=np.float64)
    if not 2 <= len(x) <= x.shape[1]:
        return None
    x = x - x.mean(axis=0)
    before = np.arange(1, len(x))[:, None]
    contrasts = (np.cumsum(x[:-1], axis=0) - before * x[1:]) / np.sqrt(before * (before + 1) * (len(x) - 1))
    return contrasts.T


def frechet_distance(
    a: Moments, b: Moments, factor_b: np.ndarray | None = None, factor_a: np.ndarray | None = None
) -> float:
    """Return |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)) (Dowson and Landau 1982; Heusel et al. 2017).

    With A = F_a F_a^T, tr (A B)^(1/2) is the sum of the singular values of F_a^T F_b, so no matrix root is taken. Pass factors
    that are already known to save work.
    """
    import torch

    right = torch.from_numpy(covariance_factor(b.covariance) if factor_b is None else factor_b)
    difference = a.mean - b.mean
    apart = float(difference @ difference + a.total_variance + b.total_variance)
    cross, error = _by_eigenvalues(_squared(a, right, factor_a))
    if error <= NEGLIGIBLE * (apart - 2 * cross):
        return apart - 2 * cross
    left = torch.from_numpy(covariance_factor(a.covariance) if factor_a is None else factor_a)
    return apart - 2 * float(torch.linalg.svdvals(left.T @ right).sum())


def _squared(a: Moments, right: "Tensor", factor_a: np.ndarray | None) -> "Tensor":
    """Return the smaller of P P^T and P^T P, where P = F_a^T F_b, or F_b^T A F_b, which needs no factor of A."""
    import torch

    if factor_a is None:
        return right.T @ (torch.from_numpy(a.scatter) @ right) / (a.count - 1)
    product = torch.from_numpy(factor_a).T @ right
    return product @ product.T if product.shape[0] <= product.shape[1] else product.T @ product


def _by_eigenvalues(squared: "Tensor") -> tuple[float, float]:
    """Return the sum of the roots of a matrix's eigenvalues, four times faster than singular values; and a bound on its error.

    An eigenvalue is off by the rounding of the largest one, which for the root of one near zero is half of the digits.
    """
    import torch

    if not squared.numel():
        return 0.0, 0.0
    values = torch.linalg.eigvalsh(squared)
    rounding = torch.finfo(values.dtype).eps * values[-1].abs()
    roots = values.clamp(min=0).sqrt()
    return float(roots.sum()), float((rounding / roots).clamp(max=rounding.sqrt()).nan_to_num(0).sum())
