"""How much images differ from each other, computed from sums: memory does not grow with their number."""

from collections.abc import Sequence

import torch
from jaxtyping import UInt8
from torch import Tensor

CHUNK = 32


class Spread:
    """Sums of pixels and of squared pixels over images of one size; kept as integers, so they are exact."""

    def __init__(self) -> None:
        self.count = 0
        self.total: Tensor | None = None
        self.squares: Tensor | None = None

    def add(self, images: UInt8[Tensor, "batch channels height width"]) -> None:
        """Add a batch of images."""
        for part in images.split(CHUNK):
            self._count(len(part), part.sum(0, dtype=torch.int64), part.int().square().sum(0, dtype=torch.int64))

    def _count(self, count: int, total: Tensor, squares: Tensor) -> None:
        self.count += count
        self.total = total if self.total is None else self.total + total
        self.squares = squares if self.squares is None else self.squares + squares

    @classmethod
    def joined(cls, parts: Sequence["Spread"]) -> "Spread":
        """Return the combined sums of several parts, such as those of all processes."""
        whole = cls()
        for part in parts:
            if part.total is not None and part.squares is not None:
                whole._count(part.count, part.total, part.squares)
        return whole

    def mean_picture(self) -> UInt8[Tensor, "1 channels height width"]:
        """Return the mean of all images, rounded to uint8."""
        assert self.total is not None
        return (self.total.cpu().double() / self.count).round().to(torch.uint8)[None]

    def variance(self) -> float:
        """Return the variance over images (values in 0...1), averaged over pixels and channels; 0 where there are none."""
        if self.total is None or self.squares is None:
            return 0.0
        mean = self.total.cpu().double() / self.count
        return float((self.squares.cpu().double() / self.count - mean.square()).clamp(min=0).mean()) / 255**2
