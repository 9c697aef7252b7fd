"""Fréchet distance between two Gaussians, right for singular covariances too."""

import numpy as np
import torch
from scipy.linalg.lapack import dpstrf

from vistok.metrics.moments import Moments

# Below this share of the largest, a squared pivot of Cholesky's may be rounding of zero.
WELL_CONDITIONED = 1e-8


def covariance_factor(covariance: np.ndarray) -> np.ndarray:
    """Return A with A A^T = covariance, (features, rank): directions without variance are cut."""
    symmetric = (covariance + covariance.T) / 2
    # A tenth of the time of an eigendecomposition; torch's linear algebra is faster than numpy's (benchmarks/frechet.py).
    lower, failed = torch.linalg.cholesky_ex(torch.from_numpy(symmetric))
    pivots = lower.diagonal() ** 2
    if not failed and len(pivots) and pivots.min() > WELL_CONDITIONED * pivots.max():
        return lower.numpy()
    # With pivots it stops where what is left is rounding of zero (n eps times the largest variance), whose root would
    # not be small; and it is the sooner done the lower the rank.
    pivoted, order, rank, _ = dpstrf(symmetric, lower=1)
    factor = np.empty((len(symmetric), rank))
    factor[order - 1] = np.tril(pivoted)[:, :rank]
    return factor


def sample_factor(features: np.ndarray) -> np.ndarray | None:
    """Return the factor (features, samples) of a covariance of few samples, or None: there are enough of them.

    With no more samples than features it is the centred samples themselves, and no decomposition is needed.
    """
    x = np.asarray(features, dtype=np.float64)
    if not 2 <= len(x) <= x.shape[1]:
        return None
    return (x - x.mean(axis=0)).T / np.sqrt(len(x) - 1)


def frechet_distance(
    a: Moments, b: Moments, factor_b: np.ndarray | None = None, factor_a: np.ndarray | None = None
) -> float:
    """Return |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)) (Dowson and Landau 1982; Heusel et al. 2017).

    tr (A B)^(1/2) is the sum of the singular values of F_a^T F_b, with A = F_a F_a^T: no matrix root.
    Factors that are at hand save work.
    """
    if factor_a is None:
        factor_a = covariance_factor(a.covariance)
    if factor_b is None:
        factor_b = covariance_factor(b.covariance)
    product = torch.from_numpy(factor_a).T @ torch.from_numpy(factor_b)
    cross = float(torch.linalg.svdvals(product).sum()) if product.numel() else 0.0
    difference = a.mean - b.mean
    return float(difference @ difference + np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross)
