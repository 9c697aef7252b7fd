"""The interface through which the rest of vistok uses a tokenizer."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from vistok.nn.description import in_one_line
from vistok.origin import Origin
from vistok.space import Layout, Space
from vistok.tokenizer.bottlenecks.base import Bottleneck, BottleneckOutput
from vistok.tokenizer.config import TokenizerConfig
from vistok.tokenizer.noise import Noise

Images = Float[Tensor, "batch channels height width"]


@dataclass
class TokenizerOutput:
    """The result for a training batch: reconstructions (batch channels height width), the encoder's output before the
    bottleneck (batch positions numbers), and the bottleneck's output."""

    reconstruction: Tensor
    features: Tensor
    bottleneck: BottleneckOutput
    layout: Layout


class Tokenizer(nn.Module, ABC):
    """Maps images to latents, integers or vectors, and back.

    `space` describes what an image of the tokenizer's size becomes. Latents are (batch, *space.shape).
    """

    config: TokenizerConfig
    space: Space
    quantizer: Bottleneck
    # What the file's header says: class names, training, digest. Empty for a new network.
    info: Origin = Origin()

    @abstractmethod
    def forward(self, images: Images, noise: Noise | None = None) -> TokenizerOutput:
        """Encode a training batch, pass it through the bottleneck, which may draw from `noise`, and decode it."""

    @abstractmethod
    def encode(self, images: Images) -> Tensor:
        """Map images in [-1, 1] to latents; a distribution is represented by its mean."""

    @abstractmethod
    def stored(self, images: Images) -> Tensor:
        """Map images to what a cache stores for them: integers, or means and standard deviations side by side."""

    @abstractmethod
    def decode(self, latents: Tensor, layout: Layout | None = None) -> Images:
        """Map latents to images (near [-1, 1], not clipped); `layout`: theirs, if it is not the tokenizer's."""

    @abstractmethod
    def to_images(self, codes: Tensor, layout: Any) -> Images:
        """Decode the bottleneck's output (batch positions code_dim) in training, on a layout that may be another one."""

    @abstractmethod
    def from_latents(self, latents: Tensor) -> Images:
        """Decode a few images without the checks of `decode`; used to count FLOPs."""

    def from_images(self, images: Images) -> Tensor:
        """Return what a cache stores for a few images without the checks of `stored`. Tokenizers to a grid have it."""
        raise NotImplementedError

    def decoding_half(self) -> "Tokenizer":
        """Drop what only encodes, and return this network, which then only decodes. Tokenizers to a grid have it."""
        raise NotImplementedError

    @abstractmethod
    def resized(self, image_size: int) -> "Tokenizer":
        """Return a tokenizer with shared weights that works at another image size."""

    def resized_for(self, layout: Layout) -> "Tokenizer | None":
        """Return this tokenizer at the image size that gives a layout, or None if no size does."""
        return None

    def parts(self) -> dict[str, nn.Module]:
        """Return the networks that a plan counts by name; parameters in none of them belong to the bottleneck."""
        return {}

    def encoding_parts(self) -> list[nn.Module]:
        """Return the modules that decide which latents an image gets; they are frozen where the decoder trains alone."""
        raise NotImplementedError

    def leading_layer(self) -> nn.Module | None:
        """Return the layer whose outputs the bottleneck gets; None if what it gets is not trained."""
        return None

    def encoding_layer(self) -> Tensor:
        """Return the weight of the encoder's last layer, at which gradients into the latents are compared."""
        raise NotImplementedError

    def last_layer(self) -> Tensor:
        """Return the weight that produces the pixels, at which the losses' gradients are compared."""
        raise NotImplementedError

    def spread_units(self) -> list[nn.Module]:
        """Return the parts that are recomputed, compiled and sharded individually."""
        return []

    def __repr__(self) -> str:
        height, width = self.config.sides
        shapes = f"images ({self.config.in_channels}, {height}, {width}) in [-1, 1] <-> {self.space}"
        return in_one_line(self, shapes, self.info)

    @property
    def device(self) -> Any:
        """The device that holds the weights."""
        return next(self.parameters()).device
