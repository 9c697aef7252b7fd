"""Improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991), by k nearest neighbours."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

CHUNK = 1024


def precision_recall(
    real: Float[Tensor, "reals features"], fake: Float[Tensor, "fakes features"], k: int = 3
) -> tuple[float, float]:
    """Return (precision, recall): shares of fakes near a real image, and of reals near a fake.

    An image is near another if it lies within that image's distance to the k-th nearest neighbour of its kind. The paper
    uses k = 3. Raises ValueError where either kind has k images or fewer.
    """
    # Distances subtract squared lengths: a mean much larger than the spread would leave no significant digits.
    mean = real.mean(dim=0, dtype=torch.float64).to(real.dtype)
    real, fake = (real - mean).float(), (fake - mean).float()
    precision = _inside_any(fake, real, _radii(real, k)).float().mean()
    recall = _inside_any(real, fake, _radii(fake, k)).float().mean()
    return float(precision), float(recall)


def _radii(points: Tensor, k: int) -> Float[Tensor, "points"]:
    if len(points) <= k:
        raise ValueError(f"{k} nearest neighbours need more than {k} samples, found {len(points)}")
    # k + 1, since the nearest neighbour of a point is the point itself.
    return torch.cat([torch.cdist(c, points).kthvalue(k + 1, dim=1).values for c in points.split(CHUNK)])


def _inside_any(points: Tensor, centres: Tensor, radii: Tensor) -> Bool[Tensor, "points"]:
    return torch.cat([(torch.cdist(c, centres) <= radii).any(dim=1) for c in points.split(CHUNK)])
