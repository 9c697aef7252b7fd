"""Are samples copies of training images? Compare their nearest neighbours with those of unseen images."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

CHUNK = 512


@dataclass(frozen=True)
class Memorization:
    """Distances to the nearest training image: root mean square over pixels, on a scale of 0...1.

    `copy_share`: share of samples closer to a training image than 99 % of unseen images are; unseen images
    themselves give 0.01. `nearest`: index of each sample's nearest training image, in the order in which they
    were passed. `searched`: number of training images.
    """

    sample_median: float
    real_median: float
    copy_share: float
    nearest: Int[Tensor, "samples"]
    distance: Float[Tensor, "samples"]
    searched: int


def memorization(
    samples: UInt8[Tensor, "samples channels height width"],
    unseen: UInt8[Tensor, "unseen channels height width"],
    train: Iterable[UInt8[Tensor, "_ channels height width"]],
) -> Memorization:
    """Compare samples with training images, which are read once, in batches."""
    distance, nearest, searched = nearest_neighbours(torch.cat([samples, unseen]), train)
    (of_samples, of_unseen), count = distance.split([len(samples), len(unseen)]), len(samples)
    share = float((of_samples < of_unseen.quantile(0.01)).float().mean())
    return Memorization(
        float(of_samples.median()), float(of_unseen.median()), share, nearest[:count], of_samples, searched
    )


def nearest_neighbours(
    queries: UInt8[Tensor, "queries channels height width"],
    points: Iterable[UInt8[Tensor, "_ channels height width"]],
) -> tuple[Float[Tensor, "queries"], Int[Tensor, "queries"], int]:
    """Return each query's distance (root mean square) to its nearest point, that point's index, and the number of points."""
    flat = _flat(queries)
    best = torch.full((len(flat),), float("inf"))
    where = torch.zeros(len(flat), dtype=torch.int64)
    count = 0
    for batch in points:
        pixels = _flat(batch)
        for start in range(0, len(flat), CHUNK):
            closest = torch.cdist(flat[start : start + CHUNK], pixels).min(dim=1)
            nearer = closest.values < best[start : start + CHUNK]
            best[start : start + CHUNK][nearer] = closest.values[nearer]
            where[start : start + CHUNK][nearer] = closest.indices[nearer] + count
        count += len(batch)
    return best / flat.shape[1] ** 0.5, where, count


def _flat(images: Tensor) -> Tensor:
    return images.flatten(1).float() / 255
