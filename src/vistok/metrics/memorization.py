"""Are samples copies of training images? Their nearest neighbours, against those of unseen real images."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

CHUNK = 512


@dataclass(frozen=True)
class Memorization:
    """Root-mean-square pixel distance (0...1 scale) to the nearest training image.

    copy_share: samples nearer to a training image than 99 % of unseen real images are; 0.01 is what
    unseen images themselves give. nearest: number of each sample's nearest training image, in the order
    in which they came; searched: how many there were.
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
    """Compare images; the training images come in batches, once."""
    distance, nearest, searched = nearest_neighbours(torch.cat([samples, unseen]), train)
    (own, real), count = distance.split([len(samples), len(unseen)]), len(samples)
    share = float((own < real.quantile(0.01)).float().mean())
    return Memorization(float(own.median()), float(real.median()), share, nearest[:count], own, searched)


def nearest_neighbours(
    queries: UInt8[Tensor, "queries channels height width"],
    points: Iterable[UInt8[Tensor, "_ channels height width"]],
) -> tuple[Float[Tensor, "queries"], Int[Tensor, "queries"], int]:
    """Return root-mean-square distance and number of the nearest point of each query, and the points' count."""
    flat = _flat(queries)
    best = torch.full((len(flat),), float("inf"))
    where = torch.zeros(len(flat), dtype=torch.int64)
    count = 0
    for batch in points:
        pixels = _flat(batch)
        for start in range(0, len(flat), CHUNK):
            found = torch.cdist(flat[start : start + CHUNK], pixels).min(dim=1)
            nearer = found.values < best[start : start + CHUNK]
            best[start : start + CHUNK][nearer] = found.values[nearer]
            where[start : start + CHUNK][nearer] = found.indices[nearer] + count
        count += len(batch)
    return best / flat.shape[1] ** 0.5, where, count


def _flat(images: Tensor) -> Tensor:
    return images.flatten(1).float() / 255
