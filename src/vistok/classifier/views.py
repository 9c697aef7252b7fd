"""Random views of images, each keyed by a seed and its image's place in the stream: the same in any batch."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from vistok.classifier.config import ViewsConfig
from vistok.rng import uniform_grid

# Logarithm of the most that a view's sides differ by (SimCLR: 4 to 3).
PROPORTION = math.log(4 / 3)


def random_view(
    images: Float[Tensor, "batch channels height width"],
    places: Int[Tensor, "batch"],
    seed: int,
    number: int,
    config: ViewsConfig,
) -> Float[Tensor, "batch channels height width"]:
    """Return view `number` of each image in [-1, 1]: a part of it at full size, perhaps mirrored, with another contrast."""
    area, shape, x, y, side, contrast, brightness = uniform_grid(seed, places, number, 7, "views").unbind(1)
    area = (config.least_area + (1 - config.least_area) * area).sqrt()
    shape = ((2 * shape - 1) * PROPORTION / 2).exp()
    width, height = (area * shape).clamp(max=1), (area / shape).clamp(max=1)
    turned = torch.where(side < 0.5, -1.0, 1.0) if config.mirrored else torch.ones_like(side)
    zero = torch.zeros_like(width)
    rows = [width * turned, zero, (2 * x - 1) * (1 - width), zero, height, (2 * y - 1) * (1 - height)]
    where = F.affine_grid(torch.stack(rows, dim=1).view(-1, 2, 3), list(images.shape), align_corners=False)
    seen = F.grid_sample(images, where, mode="bilinear", padding_mode="border", align_corners=False)
    contrast, brightness = (_each(1 + config.jitter * (2 * part - 1), seen) for part in (contrast, brightness))
    mean = seen.mean(dim=(1, 2, 3), keepdim=True)
    changed = (seen - mean) * contrast + mean
    return ((changed + 1) * brightness - 1).clamp(-1, 1)


def _each(numbers: Float[Tensor, "batch"], images: Tensor) -> Tensor:
    return numbers.view(-1, *[1] * (images.ndim - 1))
