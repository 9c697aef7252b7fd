"""The convolutional tokenizer: encoder, quantizer, decoder. Nothing in here is used only for training."""

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.config import make
from vistok.errors import UserError
from vistok.space import Grid, Layout, Space, Tokens, grid, grid_like
from vistok.tokenizer.bottlenecks.base import Bottleneck
from vistok.tokenizer.bottlenecks.config import BOTTLENECKS
from vistok.tokenizer.config import AnyConvConfig
from vistok.tokenizer.given import check_numbers, check_values, finite, images_at_once, images_given, latents_given
from vistok.tokenizer.interface import Tokenizer, TokenizerOutput
from vistok.tokenizer.networks.convnet import Decoder, Encoder
from vistok.tokenizer.networks.patch_shortcut import PatchShortcut
from vistok.tokenizer.noise import Noise


class ConvTokenizer(Tokenizer):
    """A tokenizer of the taming / LlamaGen family; runs at its own size and at any multiple of its downsampling."""

    config: AnyConvConfig
    # A convolutional encoder and decoder: their levels, a middle and a last layer.
    encoder: Any
    decoder: Any

    def __init__(self, config: AnyConvConfig) -> None:
        super().__init__()
        self.config = config
        self.shortcut: PatchShortcut | None = None
        self.make_networks(config)
        self.space: Space = config.space

    def make_networks(self, config: Any) -> None:
        """Make all parts: encoder, `pre_quantizer`, quantizer, `post_quantizer`, decoder, and a shortcut if there is one."""
        self.encoder = Encoder(config.encoder, config.padded_sides[0], config.in_channels, config.latent_channels)
        self.quantizer: Bottleneck = make(BOTTLENECKS, config.quantizer)
        self.pre_quantizer: nn.Module = nn.Conv2d(config.latent_channels, self.quantizer.in_dim, 1)
        inside = config.decoder_channels or config.latent_channels
        self.post_quantizer: nn.Module = nn.Conv2d(self.quantizer.code_dim, inside, 1)
        self.decoder = Decoder(config.decoder, config.padded_sides[0], config.in_channels, inside)
        if config.shortcut:
            length, dim = self.quantizer.vector_scale, self.quantizer.code_dim
            self.shortcut = PatchShortcut(config.encoder.downsample, config.in_channels, dim, length)
            for last in (self.pre_quantizer, self.decoder.conv_out):  # at first everything goes through the shortcut
                for parameter in last.parameters():
                    nn.init.zeros_(parameter)
            self.quantizer.begin(self.leading_layer())

    def forward(
        self, images: Float[Tensor, "batch channels height width"], noise: Noise | None = None
    ) -> TokenizerOutput:
        """Encode, quantize and decode a training batch."""
        z_e, layout = self.to_latents(images)
        bottleneck = self.quantizer(z_e, noise)
        return TokenizerOutput(self.to_images(bottleneck.decoded, layout), z_e, bottleneck, layout)

    def parts(self) -> dict[str, nn.Module]:
        """Return encoder and decoder."""
        return {"encoder": self.encoder, "decoder": self.decoder}

    def encoding_parts(self) -> list[nn.Module]:
        """Return the encoder, the quantizer, and what leads from one to the other."""
        shortcut = [] if self.shortcut is None else [self.shortcut.to_vectors]
        return [self.encoder, self.pre_quantizer, self.quantizer, *shortcut]

    def leading_layer(self) -> nn.Module:
        """Return the convolution that leads from the encoder to the bottleneck."""
        return self.pre_quantizer

    def encoding_layer(self) -> Tensor:
        """Return the encoder's last convolution."""
        return self.encoder.conv_out.weight  # type: ignore[no-any-return]

    def last_layer(self) -> Tensor:
        """Return the decoder's last convolution."""
        return self.decoder.conv_out.weight  # type: ignore[no-any-return]

    def spread_units(self) -> list[nn.Module]:
        """Return the parts that are recomputed, compiled and sharded individually."""
        encoder = [] if "encoder" not in self._modules else [*self.encoder.levels, self.encoder.middle]
        return [*encoder, self.decoder.middle, *self.decoder.levels]

    @torch.no_grad()
    def encode(self, images: Any) -> Tensor:
        """Map images in [-1, 1], on any device, to latents; arrays are taken, too.

        Raises UserError for unsuitable types, sizes, channels or values.
        """
        return self.quantizer.from_stored(self.stored(images_given(images, self.config.in_channels)))

    @torch.no_grad()
    def stored(self, images: Float[Tensor, "batch channels height width"]) -> Tensor:
        """Map images to what a cache stores for them. Raises UserError as `encode` does."""
        f, own, channels = self.config.encoder.downsample, self.config.sides, self.config.in_channels
        if images.shape[1] != channels or not self._takes(*images.shape[2:]):
            padded = self.config.padded_sides
            raise UserError(
                f"images {tuple(images.shape)}: this tokenizer takes (batch, {channels}, height, width) with height "
                f"and width {_in_words(own)}, or multiples of {f}"
                + (f" except {_in_words(padded)}" if padded != own else "")
            )
        check_values(images)
        images = images.to(self.device)
        parts = images.split(images_at_once(images.device, *images.shape[2:]))
        return torch.cat([self.quantizer(finite(self.to_latents(part)[0])).stored for part in parts])

    def from_images(self, images: Tensor) -> Tensor:
        """Return what a cache stores for a few images, unchecked."""
        return self.quantizer(self.to_latents(images)[0]).stored

    @torch.no_grad()
    def decode(self, latents: Any, layout: Layout | None = None) -> Float[Tensor, "batch channels height width"]:
        """Map latents, a tensor, an array or a list, to images. Raises UserError for a type, count or value that does not fit."""
        latents = latents_given(latents, self.space)
        layout = self._check_latents(latents, layout or self.space.layout)
        f = self.config.decoder.downsample
        latents = latents.to(self.device)
        parts = latents.split(images_at_once(latents.device, layout.height * f, layout.width * f))
        return torch.cat([self.to_images(self.quantizer.to_decoder(part), layout) for part in parts])

    def from_latents(self, latents: Tensor) -> Float[Tensor, "batch channels height width"]:
        """Decode latents in the tokenizer's layout, all at once and unchecked."""
        layout = self.space.layout
        assert isinstance(layout, Grid)
        return self.to_images(self.quantizer.to_decoder(latents), layout)

    def decoding_half(self) -> "ConvTokenizer":
        """Drop what only encodes, and return this network, which then only decodes."""
        del self.encoder, self.pre_quantizer
        if self.shortcut is not None:
            del self.shortcut.to_vectors
        return self

    def _check_latents(self, latents: Tensor, layout: Layout) -> Grid:
        """Return the layout. Raises UserError if the latents do not fit it."""
        space = self.config.quantizer.space(layout)
        noun = "tokens" if isinstance(space, Tokens) else "latents"
        if not isinstance(layout, Grid) or latents.shape[1:] != torch.Size(space.shape):
            raise UserError(
                f"{noun} {tuple(latents.shape)}: {layout} has {layout.positions} positions, so this tokenizer takes (batch, "
                f"{', '.join(map(str, space.shape))})"
            )
        check_numbers(latents, space)
        return layout

    def resized(self, image_size: int) -> "ConvTokenizer":
        """Return a tokenizer with shared weights that works at another image size (CRT paper 3.4).

        An image then gives more or fewer tokens, without retraining. Raises UserError if the size is not a multiple of
        the downsampling.
        """
        f = self.config.encoder.downsample
        config = self.config.at(image_size) if image_size > 0 else None
        if config is None or any(side % f for side in config.sides):
            raise UserError(
                f"image size {image_size}: this tokenizer runs at multiples of {f} (and at its own "
                f"{_in_words(self.config.sides)})"
            )
        other = copy.copy(self)
        other.config = config
        other.space = other.config.space
        return other

    def resized_for(self, layout: Layout) -> "ConvTokenizer | None":
        """Return this tokenizer at the image size that gives this grid, or None if its proportions differ."""
        wanted = grid_like(layout, self.space.layout)
        return None if wanted is None else self.resized(wanted.height * self.config.decoder.downsample)

    def to_latents(self, images: Tensor) -> tuple[Tensor, Grid]:
        """Return encoder outputs before the bottleneck, (batch positions numbers), and their grid."""
        images = self._pad(images)
        z_e = self.pre_quantizer(self.encoder(images))
        if self.shortcut is not None:
            # Of a distribution, the shortcut gives the mean, which comes first.
            z_e = z_e + F.pad(self.shortcut.encode(images), (0, 0, 0, 0, 0, z_e.shape[1] - self.quantizer.code_dim))
        return z_e.flatten(2).transpose(1, 2), grid(*z_e.shape[2:])

    def to_images(self, codes: Tensor, layout: Grid) -> Tensor:
        """Decode the bottleneck's output, (batch positions code_dim), cropping what `to_latents` padded."""
        codes = codes.transpose(1, 2).unflatten(2, layout.sides)
        images = self.decoder(self.post_quantizer(codes))
        if self.shortcut is not None:
            images = images + self.shortcut.decode(codes)
        height, width = self.config.sides
        return images[..., :height, :width] if layout == self.space.layout else images

    def _pad(self, images: Tensor) -> Tensor:
        """Pad images of the tokenizer's size to a whole number of tokens, repeating the last row and column."""
        own, padded = self.config.sides, self.config.padded_sides
        if own == padded or tuple(images.shape[2:]) != own:
            return images
        return F.pad(images, (0, padded[1] - own[1], 0, padded[0] - own[0]), mode="replicate")

    def _takes(self, height: int, width: int) -> bool:
        config = self.config
        if (height, width) == config.sides:
            return True
        f = config.encoder.downsample
        # The padded size is excluded, as those images would come back cropped.
        return not height % f and not width % f and (height, width) != config.padded_sides


def _in_words(sides: tuple[int, int]) -> str:
    return str(sides[0]) if sides[0] == sides[1] else f"{sides[0]}x{sides[1]}"
