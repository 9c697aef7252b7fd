"""A linear path around encoder and decoder, which then learn what a few frequencies of each patch leave out.

Shortcuts around whole networks, which then learn a residual, come from DC-AE (Chen et al. 2024, arXiv 2410.10733, 3.1).
These are trainable too, and start as the lowest frequencies of a cosine transform in opponent colours, which are close
to the principal components of natural image patches (Ahmed, Natarajan and Rao 1974; Ruderman et al. 1998). So even the
first reconstructions have the right colours, and codes initialised at that point lie where images are.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

# Lightness, red against blue, green against both. A colour pattern ranks with lightness of twice its frequency.
_OPPONENT = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (-1.0, 2.0, -1.0))
_COLOUR_COST = (1.0, 4.0, 4.0)


class PatchShortcut(nn.Module):
    """Patches of `side` x `side` pixels to vectors of `dim` numbers, and back.

    A uniform grey patch of value 1 gives a vector of length `length` at first.
    """

    def __init__(self, side: int, channels: int, dim: int, length: float = 1.0) -> None:
        super().__init__()
        self.side = side
        patterns = lowest_frequencies(side, channels, dim)
        self.to_vectors = nn.Conv2d(channels, dim, side, stride=side, bias=False)
        self.to_patches = nn.Conv2d(dim, channels * side**2, 1, bias=False)
        with torch.no_grad():
            scale = side * math.sqrt(channels) / length
            self.to_vectors.weight.copy_((patterns / scale).view_as(self.to_vectors.weight))
            self.to_patches.weight.copy_((patterns.T * scale).view_as(self.to_patches.weight))

    def encode(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch dim rows columns"]:
        """Return a vector for each patch."""
        return self.to_vectors(images)

    def decode(self, codes: Float[Tensor, "batch dim rows columns"]) -> Float[Tensor, "batch channels height width"]:
        """Return the patches, side by side."""
        return F.pixel_shuffle(self.to_patches(codes), self.side)


def lowest_frequencies(side: int, channels: int, count: int) -> Float[Tensor, "count pixels"]:
    """Return patch patterns, (channels, side, side) flattened, by decreasing variance in natural images.

    Rows are orthonormal; those beyond the number of pixel values are 0.
    """
    places = torch.arange(side) + 0.5
    waves = torch.stack([torch.cos(math.pi * k * places / side) for k in range(side)])
    waves = F.normalize(waves, dim=1)
    colours = F.normalize(torch.tensor(_OPPONENT), dim=1) if channels == 3 else torch.eye(channels)
    costs = _COLOUR_COST if channels == 3 else (1.0,) * channels
    order = sorted(
        # The constant comes before the frequencies of its colour, lightness before the other colours.
        ((k * k + m * m + 0.5) * costs[c], c, k, m)
        for c in range(channels)
        for k in range(side)
        for m in range(side)
    )
    patterns = torch.zeros(count, channels * side**2)
    for row, (_, c, k, m) in zip(patterns, order, strict=False):
        row.copy_(torch.einsum("c,y,x->cyx", colours[c], waves[k], waves[m]).flatten())
    return patterns
