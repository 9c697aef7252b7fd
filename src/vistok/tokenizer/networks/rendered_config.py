"""Config of a tokenizer to clusters whose decoder is a renderer: a generator of another tokenizer's tokens."""

from typing import Literal

from pydantic import Field, model_validator

from vistok.config import execution
from vistok.space import Tokens
from vistok.tokenizer.network_config import GRIDS, AnyGrid, Source, TokenizerConfig
from vistok.tokenizer.networks.frozen_config import AnyFrozenConfig
from vistok.tokenizer.renderers.config import AnyRenderer, MaskedRendererConfig


def _conv() -> TokenizerConfig:
    return GRIDS["conv"].config()  # type: ignore[return-value]


class RenderedTokenizerConfig(AnyFrozenConfig):
    """DiGIT's second stage as a decoder (arXiv 2410.12490): clusters, from them another tokenizer's tokens, from these pixels.

    Only the renderer is trained. What it draws is random, by noise that the clusters decide: equal clusters give equal images.
    """

    kind: Literal["rendered"] = "rendered"
    # Pixels of a side for each cluster.
    patch: int = Field(default=16, ge=1)
    # A trained tokenizer to the same clusters, whose centres are taken over; generators of its tokens fit then. Without one,
    # centres are fitted.
    clusters_from: str = execution("", "tokenizer whose clusters are taken over; their digest is fingerprinted")
    # The network of the tokenizer that is rendered to, and where it is: --codes RUN sets both.
    codes: AnyGrid = Field(default_factory=_conv, json_schema_extra={"copied": True})
    codes_from: str = execution("", "tokenizer whose tokens are drawn; its digest is fingerprinted")
    renderer: AnyRenderer = MaskedRendererConfig()

    @model_validator(mode="after")
    def _codes_fit(self) -> "RenderedTokenizerConfig":
        own, its = ((*found.sides, found.in_channels) for found in (self, self.codes))
        if own != its:
            raise ValueError(
                f"images are (height, width, channels) {own} but codes takes {its}; give a tokenizer for these images (--codes RUN)"
            )
        if not isinstance(self.codes.space, Tokens):
            raise ValueError(
                f"codes makes {self.codes.space}, which cannot be drawn as tokens; give one with vq or fsq"
            )
        return self

    @property
    def downsample(self) -> int:
        """Pixels of a side for each cluster."""
        return self.patch

    @property
    def fits(self) -> bool:
        """Whether clusters are not those of another tokenizer."""
        return not self.clusters_from

    @property
    def sources(self) -> dict[str, Source]:
        """The frozen network, or all clusters of another tokenizer; and the tokenizer that is rendered to."""
        given = super().sources
        if self.clusters_from:
            parts = ("features", "quantizer")
            given = {"clusters": Source("tokenizer", self.clusters_from, "tokenizer.clusters_from", parts)}
        return {**given, "codes": Source("tokenizer", self.codes_from or None, "tokenizer.codes_from")}
