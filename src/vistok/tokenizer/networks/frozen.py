"""Tokenizers that learn only to decode: their latents are clusters of a frozen network's features (DiGIT, arXiv 2410.12490)."""

import copy
from abc import abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vistok.config import make
from vistok.errors import UserError
from vistok.nn.frozen_features import planned_features
from vistok.space import Grid, Layout, Space, grid, grid_like
from vistok.tokenizer.bottlenecks.base import Bottleneck
from vistok.tokenizer.bottlenecks.config import BOTTLENECKS
from vistok.tokenizer.given import check_numbers, check_values, images_at_once, images_given, latents_given
from vistok.tokenizer.interface import Tokenizer, TokenizerOutput
from vistok.tokenizer.networks.convnet import Decoder
from vistok.tokenizer.networks.frozen_config import AnyFrozenConfig, FrozenTokenizerConfig
from vistok.tokenizer.noise import Noise


class ClusterTokenizer(Tokenizer):
    """Encodes to clusters of features. What decodes them is left to each kind. Features come before training begins."""

    config: AnyFrozenConfig

    def __init__(self, config: AnyFrozenConfig) -> None:
        super().__init__()
        self.config = config
        self.features = planned_features(config.features, config.dinov2)
        self.quantizer: Bottleneck = make(BOTTLENECKS, config.quantizer)
        if self.features.dim != self.quantizer.in_dim:
            raise UserError(
                f"tokenizer.quantizer.code_dim {self.quantizer.in_dim}: features {config.features!r} have {self.features.dim} "
                f"numbers; use --set tokenizer.quantizer.code_dim={self.features.dim}"
            )
        self.space: Space = config.space

    @abstractmethod
    def pictures(self, latents: Tensor, layout: Grid) -> Float[Tensor, "batch channels height width"]:
        """Decode numbers of clusters, unchecked."""

    def encoding_parts(self) -> list[nn.Module]:
        """Return the frozen network and the clusters."""
        return [self.features, self.quantizer]

    def encoding_layer(self) -> Tensor:
        """Return a weight of the frozen network: nothing flows into it, as no regularizer may be used here."""
        return next(self.features.parameters())

    @torch.no_grad()
    def encode(self, images: Any) -> Tensor:
        """Map images in [-1, 1], on any device, to numbers of clusters; arrays are taken, too.

        Raises UserError for unsuitable types, sizes, channels or values.
        """
        return self.stored(images_given(images, self.config.in_channels))

    @torch.no_grad()
    def stored(self, images: Float[Tensor, "batch channels height width"]) -> Tensor:
        """Map images to numbers of clusters. Raises UserError as `encode` does."""
        self.check_size(images)
        check_values(images)
        images = images.to(self.device)
        parts = images.split(images_at_once(images.device, *images.shape[2:]))
        return torch.cat([self.from_images(part) for part in parts])

    def check_size(self, images: Tensor) -> None:
        """Raise UserError for images of another number of channels, or of sides that clusters do not divide."""
        f, channels = self.config.downsample, self.config.in_channels
        if images.shape[1] != channels or any(not side or side % f for side in images.shape[2:]):
            raise UserError(
                f"images {tuple(images.shape)}: this tokenizer takes (batch, {channels}, height, width) with height and width "
                f"multiples of {f}"
            )

    @torch.no_grad()
    def decode(self, latents: Any, layout: Layout | None = None) -> Float[Tensor, "batch channels height width"]:
        """Map numbers of clusters, a tensor, an array or a list, to images. Raises UserError for what does not fit."""
        latents, layout = latents_given(latents, self.space), layout or self.space.layout
        if not isinstance(layout, Grid) or latents.shape[1:] != torch.Size([layout.positions]):
            raise UserError(
                f"tokens {tuple(latents.shape)}: {layout} has {layout.positions} positions, so this tokenizer takes (batch, "
                f"{layout.positions})"
            )
        check_numbers(latents, self.space)
        latents, f = latents.to(self.device), self.config.downsample
        parts = latents.split(images_at_once(latents.device, layout.height * f, layout.width * f))
        return torch.cat([self.pictures(part, layout) for part in parts])

    def from_latents(self, latents: Tensor) -> Float[Tensor, "batch channels height width"]:
        """Decode numbers of clusters in the tokenizer's layout, all at once and unchecked."""
        layout = self.space.layout
        assert isinstance(layout, Grid)
        return self.pictures(latents, layout)

    def from_images(self, images: Float[Tensor, "batch channels height width"]) -> Tensor:
        """Return the numbers of a few images' clusters, unchecked."""
        return self.quantizer(self.to_latents(images)[0]).stored

    def to_latents(self, images: Tensor) -> tuple[Float[Tensor, "batch positions dim"], Grid]:
        """Return the frozen network's features and their grid."""
        f = self.config.downsample
        layout = grid(images.shape[2] // f, images.shape[3] // f)
        return self.features(images, *layout.sides), layout


class FrozenTokenizer(ClusterTokenizer):
    """A convolutional decoder from the centres of clusters; runs at its own size and at any multiple of its downsampling."""

    config: FrozenTokenizerConfig

    def __init__(self, config: FrozenTokenizerConfig) -> None:
        super().__init__(config)
        self.post_quantizer = nn.Conv2d(self.quantizer.code_dim, config.latent_channels, 1)
        self.decoder = Decoder(config.decoder, config.image_size, config.in_channels, config.latent_channels)

    def forward(
        self, images: Float[Tensor, "batch channels height width"], noise: Noise | None = None
    ) -> TokenizerOutput:
        """Find the clusters of a training batch and decode their centres."""
        z_e, layout = self.to_latents(images)
        bottleneck = self.quantizer(z_e, noise)
        return TokenizerOutput(self.to_images(bottleneck.decoded, layout), z_e, bottleneck, layout)

    def parts(self) -> dict[str, nn.Module]:
        """Return the frozen network and the decoder."""
        return {"features": self.features, "decoder": self.decoder}

    def last_layer(self) -> Tensor:
        """Return the decoder's last convolution."""
        return self.decoder.conv_out.weight

    def spread_units(self) -> list[nn.Module]:
        """Return the decoder's parts."""
        return [self.decoder.middle, *self.decoder.levels]

    def pictures(self, latents: Tensor, layout: Grid) -> Float[Tensor, "batch channels height width"]:
        """Decode the centres with these numbers."""
        return self.to_images(self.quantizer.to_decoder(latents), layout)

    def to_images(self, codes: Tensor, layout: Grid) -> Float[Tensor, "batch channels height width"]:
        """Decode centres, (batch positions code_dim)."""
        return self.decoder(self.post_quantizer(codes.transpose(1, 2).unflatten(2, layout.sides)))

    def resized(self, image_size: int) -> "FrozenTokenizer":
        """Return a tokenizer with shared weights that works at another image size.

        Raises UserError if the size is not a multiple of the downsampling.
        """
        f = self.config.downsample
        if image_size <= 0 or image_size % f:
            raise UserError(f"image size {image_size}: this tokenizer runs at multiples of {f}")
        other = copy.copy(self)
        other.config = self.config.at(image_size)
        other.space = other.config.space
        return other

    def resized_for(self, layout: Layout) -> "FrozenTokenizer | None":
        """Return this tokenizer at the image size that gives this grid, or None if its proportions differ."""
        wanted = grid_like(layout, self.space.layout)
        return None if wanted is None else self.resized(wanted.height * self.config.downsample)
