"""Are samples copies of training images? Their nearest neighbours, against those of unseen real images."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

CHUNK = 512


@dataclass(frozen=True)
class Memorization:
    """Root-mean-square pixel distance (0...1 scale) to the nearest training image.

    copy_share: samples nearer to a training image than 99 % of unseen real images are; 0.01 is what
    unseen images themselves give. nearest: number of each sample's nearest training image.
    """

    sample_median: float
    real_median: float
    copy_share: float
    nearest: Int[Tensor, "samples"]
    distance: Float[Tensor, "samples"]


def memorization(
    samples: Float[Tensor, "samples pixels"],
    unseen: Float[Tensor, "unseen pixels"],
    train: Float[Tensor, "train pixels"],
) -> Memorization:
    """Compare flattened images in [0, 1]."""
    distance, nearest = nearest_neighbours(samples, train)
    real, _ = nearest_neighbours(unseen, train)
    threshold = real.quantile(0.01)
    return Memorization(
        float(distance.median()), float(real.median()), float((distance < threshold).float().mean()), nearest, distance
    )


def nearest_neighbours(
    queries: Float[Tensor, "queries pixels"], points: Float[Tensor, "points pixels"]
) -> tuple[Float[Tensor, "queries"], Int[Tensor, "queries"]]:
    """Return root-mean-square distance and number of the nearest point of each query."""
    found = [torch.cdist(chunk, points).min(dim=1) for chunk in queries.split(CHUNK)]
    distance = torch.cat([f.values for f in found]) / queries.shape[1] ** 0.5
    return distance, torch.cat([f.indices for f in found])
