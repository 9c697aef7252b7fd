"""TiTok's tokenizer (arXiv 2406.07550): an image as a line of latents, any number of them. Pixels are predicted in one stage.

With `prefixes`, training hides the rest of each line from a random place on (nested dropout; Rippel et al. 2014, arXiv
1402.0915). The first latents then hold what matters most, and fewer of them give a coarser image.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vistok.config import make
from vistok.errors import UserError
from vistok.space import Layout, Line, Space, Tokens, Vectors
from vistok.tokenizer.bottlenecks.base import Bottleneck
from vistok.tokenizer.bottlenecks.config import BOTTLENECKS
from vistok.tokenizer.config import AnyLineConfig
from vistok.tokenizer.given import check_numbers, check_values, finite, images_at_once, images_given, latents_given
from vistok.tokenizer.interface import Tokenizer, TokenizerOutput
from vistok.tokenizer.networks.patch_transformer import LatentDecoder, PatchDecoder, PatchEncoder, init_linear
from vistok.tokenizer.noise import Noise


class LineTokenizer(Tokenizer):
    """Takes images of one size, since the positions of patches are learned."""

    config: AnyLineConfig

    def __init__(self, config: AnyLineConfig) -> None:
        super().__init__()
        self.config = config
        shapes = (config.patches, config.patch, config.in_channels, config.num_latents)
        self.encoder = PatchEncoder(config.encoder, *shapes)
        self.quantizer: Bottleneck = make(BOTTLENECKS, config.quantizer)
        self.pre_quantizer = nn.Linear(config.encoder.width, self.quantizer.in_dim)
        init_linear(self.pre_quantizer)
        self.decoder = self._decoder(config)
        self.space: Space = config.space

    def _decoder(self, config: Any) -> LatentDecoder:
        """Return the network that maps the bottleneck's output to images."""
        shapes = (config.patches, config.patch, config.in_channels, config.num_latents)
        return PatchDecoder(config.decoder, *shapes, self.quantizer.code_dim)

    def forward(
        self, images: Float[Tensor, "batch channels height width"], noise: Noise | None = None
    ) -> TokenizerOutput:
        """Encode, quantize and decode a training batch; with `prefixes`, each image from the first part of its line."""
        z_e = self.to_latents(images)
        bottleneck = self.quantizer(z_e, noise)
        reconstruction = self.decoder(bottleneck.decoded, self.kept(len(images), noise))
        return TokenizerOutput(reconstruction, z_e, bottleneck, self.space.layout)

    def kept(self, count: int, noise: Noise | None) -> Int[Tensor, "images"] | None:
        """Return how many latents each image keeps in training with `prefixes`; None: all of them."""
        return self._lengths(count, noise) if self.training and self.config.prefixes else None

    def _lengths(self, count: int, noise: Noise | None) -> Int[Tensor, "images"]:
        """Return how many latents each image keeps, evenly from 1 to all."""
        share = torch.rand(count, device=self.device) if noise is None else noise.uniform("prefix")
        return 1 + (share * self.config.num_latents).long()

    def parts(self) -> dict[str, nn.Module]:
        """Return encoder and decoder."""
        return {"encoder": self.encoder, "decoder": self.decoder}

    def encoding_parts(self) -> list[nn.Module]:
        """Return the encoder, the quantizer, and what leads from one to the other."""
        return [self.encoder, self.pre_quantizer, self.quantizer]

    def leading_layer(self) -> nn.Module:
        """Return the layer that leads from the encoder to the bottleneck."""
        return self.pre_quantizer

    def encoding_layer(self) -> Tensor:
        """Return the layer that leads from the encoder to the bottleneck."""
        return self.pre_quantizer.weight

    def last_layer(self) -> Tensor:
        """Return the decoder's layer at which gradients are compared."""
        return self.decoder.last_layer()

    def spread_units(self) -> list[nn.Module]:
        """Return the parts that are recomputed, compiled and sharded individually."""
        return [*self.encoder.blocks, *self.decoder.spread_units()]

    @torch.no_grad()
    def encode(self, images: Any) -> Tensor:
        """Map images in [-1, 1], on any device, to the whole line; arrays are taken, too.

        Raises UserError for unsuitable types, sizes, channels or values.
        """
        return self.quantizer.from_stored(self.stored(images_given(images, self.config.in_channels)))

    @torch.no_grad()
    def stored(self, images: Float[Tensor, "batch channels height width"]) -> Tensor:
        """Map images to what a cache stores for them. Raises UserError as `encode` does."""
        wanted = (self.config.in_channels, *self.config.sides)
        if tuple(images.shape[1:]) != wanted:
            raise UserError(
                f"images {tuple(images.shape)}: this tokenizer takes (batch, {', '.join(map(str, wanted))})"
            )
        check_values(images)
        images = images.to(self.device)
        parts = images.split(images_at_once(images.device, *self.config.sides))
        return torch.cat([self.quantizer(finite(self.to_latents(part))).stored for part in parts])

    @torch.no_grad()
    def decode(self, latents: Any, layout: Layout | None = None) -> Float[Tensor, "batch channels height width"]:
        """Map latents, a tensor, an array or a list, to images; with `prefixes` the first ones of each line are enough.

        Raises UserError for a type, count or value that does not fit.
        """
        latents = latents_given(latents, self.space)
        self._check_latents(latents, layout)
        latents = latents.to(self.device)
        parts = latents.split(images_at_once(latents.device, *self.config.sides))
        return torch.cat([self.from_latents(part) for part in parts])

    def from_latents(self, latents: Tensor) -> Float[Tensor, "batch channels height width"]:
        """Decode latents all at once and unchecked."""
        return self.decoder(self.quantizer.to_decoder(latents))

    def _check_latents(self, latents: Tensor, layout: Layout | None) -> None:
        """Raise UserError if the latents are neither the line nor, where that was trained, its beginning."""
        whole, prefixes = self.config.num_latents, self.config.prefixes
        noun = "tokens" if isinstance(self.space, Tokens) else "latents"
        given = latents.shape[1] if latents.ndim > 1 else 0
        rest = (self.space.dim,) if isinstance(self.space, Vectors) else ()
        if layout not in (None, Line(length=max(1, given))) or latents.shape[2:] != rest or not 1 <= given <= whole:
            lengths = f"1...{whole}" if prefixes else str(whole)
            raise UserError(
                f"{noun} {tuple(latents.shape)}{f' on {layout}' if layout else ''}: this tokenizer's latents are a line of "
                f"{whole}, so it takes (batch, {', '.join([lengths, *map(str, rest)])})"
            )
        if given < whole and not prefixes:
            raise UserError(
                f"{noun} {tuple(latents.shape)}: the first {given} of a line of {whole}, but this tokenizer was not trained to "
                f"decode a part; give all {whole}, or train one with --set tokenizer.prefixes=true"
            )
        check_numbers(latents, self.space)

    def resized(self, image_size: int) -> "LineTokenizer":
        """Return this tokenizer, at its own size. Raises UserError for another one."""
        if image_size != self.config.image_size:
            height, width = self.config.sides
            raise UserError(
                f"image size {image_size}: this tokenizer runs at its own {height}x{width} alone, as its patches have learned "
                "positions; train one at that size, or use a conv tokenizer"
            )
        return self

    def to_latents(self, images: Tensor) -> Float[Tensor, "batch positions numbers"]:
        """Return the encoder's outputs before the bottleneck."""
        x = self.encoder(images)
        if self.config.legacy_reshape:
            x = x.reshape(len(x), x.shape[2], x.shape[1]).mT
        return self.pre_quantizer(x)

    def to_images(self, codes: Tensor, layout: Layout) -> Float[Tensor, "batch channels height width"]:
        """Decode the bottleneck's output, (batch positions code_dim), the whole line or its beginning."""
        return self.decoder(codes)
