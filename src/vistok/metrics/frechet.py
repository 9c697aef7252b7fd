"""Fréchet distance between two Gaussians, correct for singular covariances too."""

import numpy as np
from scipy.linalg.lapack import dpstrf

from vistok.metrics.moments import Moments

# A squared Cholesky pivot below this share of the largest one may be a rounded zero.
WELL_CONDITIONED = 1e-8


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
    """Return the covariance factor (features, samples) where there are no more samples than features, else None.

    It consists of the centred samples themselves, so no decomposition is needed. None for fewer than 2 samples, too.
    """
    x = np.asarray(features, dtype=np.float64)
    if not 2 <= len(x) <= x.shape[1]:
        return None
    return (x - x.mean(axis=0)).T / np.sqrt(len(x) - 1)


def frechet_distance(
    a: Moments, b: Moments, factor_b: np.ndarray | None = None, factor_a: np.ndarray | None = None
) -> float:
    """Return |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)) (Dowson and Landau 1982; Heusel et al. 2017).

    With A = F_a F_a^T, tr (A B)^(1/2) is the sum of the singular values of F_a^T F_b, so no matrix root is taken.
    Pass factors that are already known to save work.
    """
    import torch

    if factor_a is None:
        factor_a = covariance_factor(a.covariance)
    if factor_b is None:
        factor_b = covariance_factor(b.covariance)
    product = torch.from_numpy(factor_a).T @ torch.from_numpy(factor_b)
    cross = float(torch.linalg.svdvals(product).sum()) if product.numel() else 0.0
    difference = a.mean - b.mean
    return float(difference @ difference + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross)
