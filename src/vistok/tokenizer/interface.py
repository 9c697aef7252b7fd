"""What the rest of vistok may ask of a tokenizer."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from jaxtyping import Float, Int
from torch import Tensor, nn


class TokenGrid(NamedTuple):
    """Latent layout before flattening; raster order."""

    height: int
    width: int

    @property
    def num_tokens(self) -> int:
        """Positions of the flattened grid."""
        return self.height * self.width


class Tokenizer(nn.Module, ABC):
    """Images to integers and back."""

    token_grid: TokenGrid
    codebook_size: int
    # What the file says of itself: class names, training, digest (empty for a new model).
    info: dict[str, Any] = {}

    @abstractmethod
    def encode(self, images: Float[Tensor, "batch channels height width"]) -> Int[Tensor, "batch positions"]:
        """Map images in [-1, 1] to tokens in [0, codebook_size), raster order."""

    @abstractmethod
    def decode(
        self, tokens: Int[Tensor, "batch positions"], grid: TokenGrid | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """Map tokens to images (near [-1, 1], not clipped); `grid` where it is not the training grid."""
