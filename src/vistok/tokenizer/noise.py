"""Noise of a training step, each image's its own."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from vistok.rng import derive_seed, normal_grid, uniform_grid


@dataclass(frozen=True)
class Noise:
    """Draws for the images of a micro-batch, keyed by a seed and by each image's place in the stream of all steps.

    So they are the same in whatever micro-batch, and on whatever process, an image is.
    """

    seed: int
    places: Tensor

    def normal(self, stream: str, shape: Sequence[int]) -> Tensor:
        """Return standard normal numbers, (images, *shape)."""
        return normal_grid(derive_seed(self.seed, stream), self.places, 0, shape)

    def uniform(self, stream: str) -> Tensor:
        """Return a number in (0, 1) for each image, (images,)."""
        return uniform_grid(derive_seed(self.seed, stream), self.places, 0, 1, "share")[:, 0]
