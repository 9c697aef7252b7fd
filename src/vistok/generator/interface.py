"""What the rest of vistok may ask of a generator."""

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from vistok.generator.config import SamplingConfig


class Generator(nn.Module, ABC):
    """A model of token grids given a class."""

    num_tokens: int
    codebook_size: int
    # What the file says of itself: class names, training, digest (empty for a new model).
    info: dict[str, Any] = {}
    num_classes: int

    @abstractmethod
    def loss(
        self, tokens: Int[Tensor, "batch positions"], labels: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch positions"]:
        """Return nats per image and position; in training mode some labels are dropped."""

    @abstractmethod
    def sample(
        self,
        labels: Int[Tensor, "batch"],
        image_ids: Int[Tensor, "batch"] | None = None,
        sampling: SamplingConfig | None = None,
    ) -> Int[Tensor, "batch positions"]:
        """Draw one grid per label; a grid depends on its label, its id (0, 1, ... by default) and the seed alone."""
