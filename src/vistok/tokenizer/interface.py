"""What the rest of vistok may ask of a tokenizer."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from vistok.origin import Origin
from vistok.space import Layout, Space
from vistok.tokenizer.bottlenecks.base import Bottleneck, BottleneckOutput
from vistok.tokenizer.config import TokenizerConfig

Images = Float[Tensor, "batch channels height width"]


@dataclass
class TokenizerOutput:
    """What a training batch gives: reconstructions (batch channels height width), the encoder's outputs before the
    bottleneck (batch positions numbers), and the bottleneck's."""

    reconstruction: Tensor
    features: Tensor
    bottleneck: BottleneckOutput
    layout: Layout


class Tokenizer(nn.Module, ABC):
    """Images to latents, integers or vectors, and back.

    `space` says what an image of the own size becomes. Latents are (batch, *space.shape).
    """

    config: TokenizerConfig
    space: Space
    quantizer: Bottleneck
    # What the file says of itself: class names, training, digest (of a new network nothing).
    info: Origin = Origin()

    @abstractmethod
    def forward(self, images: Images) -> TokenizerOutput:
        """Encode, squeeze and decode a training batch."""

    @abstractmethod
    def encode(self, images: Images) -> Tensor:
        """Map images in [-1, 1] to latents; of a distribution its mean."""

    @abstractmethod
    def stored(self, images: Images) -> Tensor:
        """Map images to what a cache keeps of them: integers, or means and standard deviations side by side."""

    @abstractmethod
    def decode(self, latents: Tensor, layout: Layout | None = None) -> Images:
        """Map latents to images (near [-1, 1], not clipped); `layout` where it is not the own images'."""

    @abstractmethod
    def from_latents(self, latents: Tensor) -> Images:
        """Do what `decode` does to a few images, without its checks: what is counted."""

    @abstractmethod
    def resized(self, image_size: int) -> "Tokenizer":
        """Return this tokenizer, sharing its weights, as one whose own images have another size."""

    def resized_for(self, layout: Layout) -> "Tokenizer | None":
        """Return this tokenizer at the image size that gives a layout, or None where no size does."""
        return None

    def parts(self) -> dict[str, nn.Module]:
        """Return the networks that a plan counts by name; what lies in none of them is the bottleneck's."""
        return {}

    def last_layer(self) -> Tensor:
        """Return the weight that pixels come from, at which gradients of losses are compared."""
        raise NotImplementedError

    def spread_units(self) -> list[nn.Module]:
        """Return the parts that are recomputed, compiled and sharded one by one."""
        return []

    @property
    def device(self) -> Any:
        """Where the weights are."""
        return next(self.parameters()).device
