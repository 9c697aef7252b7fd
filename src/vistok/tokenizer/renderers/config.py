"""Configs of renderers, and the table of their kinds."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vistok.config import Config, Kinds, Part
from vistok.nn.mixers.config import require_heads


class RendererConfig(Config):
    """A transformer that reads an image's clusters, all of them visible, and draws the tokens of a tokenizer to pixels.

    The default size is DiGIT's (arXiv 2410.12490). Drawing is a part of decoding, and so are the fields that say how.
    """

    kind: str
    width: int = Field(default=1024, ge=4)
    depth: int = Field(default=16, ge=1, le=1000)
    num_heads: int = Field(default=16, ge=1)
    ffn_multiple: int = Field(default=256, ge=1)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    temperature: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    # Of the noise, which the clusters decide beside it: the same clusters always give the same picture.
    seed: int = 0

    @model_validator(mode="after")
    def _heads(self) -> "RendererConfig":
        require_heads(self.width, self.num_heads)
        return self


class AutoregressiveRendererConfig(RendererConfig):
    """One token after another."""

    kind: Literal["autoregressive"] = "autoregressive"
    top_p: Annotated[float, Field(gt=0, le=1)] | None = 0.8


class MaskedRendererConfig(RendererConfig):
    """All tokens in a few steps (MaskGIT), the surest first. DiGIT masks by the cosine schedule in training and in drawing."""

    kind: Literal["masked"] = "masked"
    steps: int = Field(default=8, ge=1)
    schedule: Literal["arccos", "cosine", "linear", "square"] = "cosine"
    # Gumbel noise in the choice of the tokens that stay, falling to none in the last step.
    choice_temperature: float = Field(default=4.5, ge=0, allow_inf_nan=False)


RENDERERS = {
    "autoregressive": Part(
        AutoregressiveRendererConfig, "vistok.tokenizer.renderers.autoregressive:AutoregressiveRenderer"
    ),
    "masked": Part(MaskedRendererConfig, "vistok.tokenizer.renderers.masked:MaskedRenderer"),
}
AnyRenderer = Annotated[RendererConfig, Kinds(RendererConfig, RENDERERS, "masked")]
