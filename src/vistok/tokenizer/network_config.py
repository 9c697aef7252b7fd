"""Configs that networks of tokenizers share: their base, and the convolutional encoder and decoder."""

from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from vistok.config import Config, ConfigError, Kinds, Part, later
from vistok.space import Layout, Space
from vistok.tokenizer.bottlenecks.config import AnyBottleneck, VQConfig


@dataclass(frozen=True)
class Source:
    """Where the weights of a network inside a tokenizer come from, which training leaves as they are.

    `network`: the name of a frozen vision network, or "tokenizer"; `file`: its file or run, if it has one. `field`: of the run's
    config that says so, for messages. `parts`: those of a tokenizer that are taken over, all if there are none.
    """

    network: str
    file: str | None
    field: str
    parts: tuple[str, ...] = ()


class ConvNetConfig(Config):
    """One side (encoder or decoder) of the taming / LlamaGen network.

    Each multiplier adds a level; between levels the image is halved. The defaults are the CRT paper's f16 network (A.1).
    The decoder has one more residual block per level than `num_res_blocks`.
    """

    channels: int = Field(default=128, ge=1)
    multipliers: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(1, 1, 2, 2, 4), min_length=1)
    num_res_blocks: int = Field(default=2, ge=1, le=100)
    attention_resolutions: tuple[int, ...] = (16,)
    norm_groups: int = Field(default=32, ge=1)
    # Side of the pixel squares that the first level treats as one position: with 2, the most expensive level has a
    # quarter of the positions.
    patch: Literal[1, 2, 4] = later(1)
    # Attention between the two residual blocks at the lowest resolution; latent-diffusion's "noattn" models lack it.
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
    """Config fields that all tokenizer networks share."""

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

    @model_validator(mode="after")
    def _fitted_to_what_stays(self: T) -> T:
        if self.quantizer.fitted and not self.steady:
            raise ValueError(
                f"quantizer {self.quantizer.kind!r} is fitted to features before training, but those of a {self.kind!r} network change "
                "in training; use the 'frozen' network, or the 'vq' bottleneck"
            )
        return self

    @property
    def steady(self) -> bool:
        """Whether training leaves the latents of an image as they are."""
        return False

    @property
    def fits(self) -> bool:
        """Whether codes are fitted before training."""
        return self.quantizer.fitted

    @property
    def sources(self) -> dict[str, Source]:
        """The networks inside that come from elsewhere and are not trained, by their places in the tokenizer."""
        return {}

    @property
    def layout(self) -> Layout:
        """The layout of latents for an image of `image_size`."""
        raise NotImplementedError

    @property
    def space(self) -> Space:
        """The space of latents that an image of `image_size` becomes."""
        return self.quantizer.space(self.layout)

    @property
    def num_tokens(self) -> int:
        """The number of latents for an image of `image_size`."""
        return self.layout.positions


# Networks that learn to encode to a grid, whose tokens others predict; config.py fills the table.
GRIDS: dict[str, Part] = {}
AnyGrid = Annotated[TokenizerConfig, Kinds(TokenizerConfig, GRIDS, "conv")]
