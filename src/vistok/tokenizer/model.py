"""The convolutional tokenizer: encoder, quantizer, decoder. Nothing here is for training only."""

import copy
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.errors import UserError
from vistok.tokenizer.config import TokenizerConfig
from vistok.tokenizer.convnet import Decoder, Encoder
from vistok.tokenizer.interface import TokenGrid, Tokenizer
from vistok.tokenizer.quantizers import QuantizerOutput, build_quantizer
from vistok.tokenizer.shortcut import PatchShortcut

# Interpolation overshoots a little; whole numbers up to 255 and standardized images lie far outside.
FARTHEST = 1.5
# Encoded or decoded at once, whatever the batch, so that memory does not grow with it: 16 images of 256x256, whose widest
# layer then takes 0.5 GB. On a CPU a quarter of that, which is as fast (benchmarks/parts.py).
CPU_PIXELS, PIXELS = 2**18, 2**20


def _check_values(images: Tensor) -> None:
    """Raise UserError for images that nobody meant: a NaN would become a code like any other."""
    if not images.is_floating_point():
        raise UserError(f"images of {images.dtype}: this tokenizer takes floats in [-1, 1]; use images / 127.5 - 1")
    if not images.numel():
        return
    low, high = (float(value) for value in torch.aminmax(images))
    if not math.isfinite(low + high):
        raise UserError("images hold values that are not finite (NaN or infinity); look for where they come from")
    if low < -FARTHEST or high > FARTHEST:
        raise UserError(
            f"images must lie in [-1, 1], found {low:g}...{high:g}; use images / 127.5 - 1 for values of 0...255"
        )


def _images_at_once(device: torch.device, height: int, width: int) -> int:
    return max(1, (CPU_PIXELS if device.type == "cpu" else PIXELS) // (height * width))


@dataclass
class TokenizerOutput:
    """Reconstructions (batch channels height width) and the quantizer's output (batch positions ...)."""

    reconstruction: Tensor
    quantized: QuantizerOutput


class ConvTokenizer(Tokenizer):
    """Tokenizer of the taming / LlamaGen family; runs at its own size and at any multiple of its downsampling."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder, config.padded_size, config.in_channels, config.latent_channels)
        self.quantizer = build_quantizer(config.quantizer)
        self.pre_quantizer = nn.Conv2d(config.latent_channels, self.quantizer.code_dim, 1)
        self.post_quantizer = nn.Conv2d(self.quantizer.code_dim, config.latent_channels, 1)
        self.decoder = Decoder(config.decoder, config.padded_size, config.in_channels, config.latent_channels)
        self.shortcut: PatchShortcut | None = None
        if config.shortcut:
            self.shortcut = PatchShortcut(config.encoder.downsample, config.in_channels, self.quantizer.code_dim)
            for last in (self.pre_quantizer, self.decoder.conv_out):  # at first all goes by the shortcut
                for parameter in last.parameters():
                    nn.init.zeros_(parameter)
        self.token_grid = TokenGrid(*config.grid)
        self.codebook_size = self.quantizer.codebook_size

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> TokenizerOutput:
        """Encode, quantize and decode a training batch."""
        z_e, grid = self.to_latents(images)
        quantized = self.quantizer(z_e)
        return TokenizerOutput(self.to_images(quantized.z_q, grid), quantized)

    def spread_units(self) -> list[nn.Module]:
        """Return the parts that are recomputed, compiled and sharded one by one."""
        encoder, decoder = self.encoder, self.decoder
        return [*encoder.levels, encoder.middle, decoder.middle, *decoder.levels]

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "batch channels height width"]) -> Int[Tensor, "batch positions"]:
        """Map images in [-1, 1], on any device, to tokens. Raises UserError for a size, channels or value that do not fit."""
        f, own, channels = self.config.encoder.downsample, self.config.image_size, self.config.in_channels
        if images.shape[1] != channels or not self._takes(*images.shape[2:]):
            raise UserError(
                f"images {tuple(images.shape)}: this tokenizer takes (batch, {channels}, height, width) with height "
                f"and width {own}, or multiples of {f}" + (f" but {self.config.padded_size}" if own % f else "")
            )
        _check_values(images)
        images = images.to(self.post_quantizer.weight.device)
        parts = images.split(_images_at_once(images.device, *images.shape[2:]))
        return torch.cat([self.quantizer(self.to_latents(part)[0]).indices for part in parts])

    @torch.no_grad()
    def decode(
        self, tokens: Int[Tensor, "batch positions"], grid: TokenGrid | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """Map tokens to images. Raises UserError for a count or a value that does not fit."""
        grid = grid or self.token_grid
        if tokens.shape[1] != grid.num_tokens:
            raise UserError(f"tokens {tuple(tokens.shape)}: grid {tuple(grid)} has {grid.num_tokens} positions")
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.codebook_size:
            raise UserError(f"tokens must lie in 0...{self.codebook_size - 1}, found {tokens.min()}...{tokens.max()}")
        f = self.config.decoder.downsample
        tokens = tokens.to(self.post_quantizer.weight.device)
        parts = tokens.split(_images_at_once(tokens.device, grid.height * f, grid.width * f))
        return torch.cat([self.to_images(self.quantizer.indices_to_codes(part), grid) for part in parts])

    def resized(self, image_size: int) -> "ConvTokenizer":
        """Return this tokenizer, sharing its weights, as one whose own images have another size (CRT paper 3.4).

        So an image gives more tokens or fewer without training again. Raises UserError where the downsampling does not
        divide the size.
        """
        f = self.config.encoder.downsample
        if image_size % f or image_size <= 0:
            raise UserError(
                f"image size {image_size}: this tokenizer runs at multiples of {f} (and at its own "
                f"{self.config.image_size})"
            )
        other = copy.copy(self)
        other.config = self.config.replace(image_size=image_size)
        other.token_grid = TokenGrid(*other.config.grid)
        return other

    def to_latents(self, images: Tensor) -> tuple[Tensor, TokenGrid]:
        """Return encoder outputs before quantization, (batch positions code_dim), and their grid."""
        images = self._pad(images)
        z_e = self.pre_quantizer(self.encoder(images))
        if self.shortcut is not None:
            z_e = z_e + self.shortcut.encode(images)
        return z_e.flatten(2).transpose(1, 2), TokenGrid(*z_e.shape[2:])

    def to_images(self, codes: Tensor, grid: TokenGrid) -> Tensor:
        """Decode code vectors (batch positions code_dim); crops what `to_latents` padded."""
        codes = codes.transpose(1, 2).unflatten(2, tuple(grid))
        images = self.decoder(self.post_quantizer(codes))
        if self.shortcut is not None:
            images = images + self.shortcut.decode(codes)
        own = self.config.image_size
        return images[..., :own, :own] if grid == self.token_grid else images

    def _pad(self, images: Tensor) -> Tensor:
        """Repeat the last row and column of images of the own size up to a whole number of tokens."""
        missing = self.config.padded_size - self.config.image_size
        if not missing or images.shape[-1] != self.config.image_size:
            return images
        return F.pad(images, (0, missing, 0, missing), mode="replicate")

    def _takes(self, height: int, width: int) -> bool:
        config = self.config
        if height == width == config.image_size:
            return True
        f = config.encoder.downsample
        # Images of the padded size would come back cropped.
        return not height % f and not width % f and (height, width) != (config.padded_size,) * 2
