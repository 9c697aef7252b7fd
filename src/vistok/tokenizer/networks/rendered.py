"""A tokenizer to clusters that draws another tokenizer's tokens from them (DiGIT, arXiv 2410.12490, section 3.4)."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vistok.config import make
from vistok.errors import UserError
from vistok.nn.evaluation import in_evaluation
from vistok.rng import content_keys
from vistok.space import Grid, Layout, Tokens
from vistok.tokenizer.interface import Tokenizer, TokenizerOutput
from vistok.tokenizer.network_config import GRIDS
from vistok.tokenizer.networks.frozen import ClusterTokenizer
from vistok.tokenizer.networks.rendered_config import RenderedTokenizerConfig
from vistok.tokenizer.noise import Noise
from vistok.tokenizer.renderers.base import Renderer
from vistok.tokenizer.renderers.config import RENDERERS


class RenderedTokenizer(ClusterTokenizer):
    """Frozen clusters, a renderer, and a frozen tokenizer whose tokens it draws. Images keep one size, as positions are learned."""

    config: RenderedTokenizerConfig

    def __init__(self, config: RenderedTokenizerConfig) -> None:
        super().__init__(config)
        self.codes: Tokenizer = make(GRIDS, config.codes)
        self.codes.requires_grad_(False).eval()
        clusters, tokens = self.space, self.codes.space
        assert isinstance(clusters, Tokens) and isinstance(tokens, Tokens)
        self.renderer: Renderer = make(RENDERERS, config.renderer, clusters, tokens)

    def forward(
        self, images: Float[Tensor, "batch channels height width"], noise: Noise | None = None
    ) -> TokenizerOutput:
        """Find the clusters of images and render them; training needs `rendering_terms` instead."""
        z_e, layout = self.to_latents(images)
        bottleneck = self.quantizer(z_e, noise)
        return TokenizerOutput(self.pictures(bottleneck.stored, layout), z_e, bottleneck, layout)

    def rendering_terms(
        self, images: Float[Tensor, "batch channels height width"], noise: Noise | None = None
    ) -> dict[str, Tensor]:
        """Return what the renderer minimises on a batch: terms about the tokens that belong to the images' clusters."""
        with torch.no_grad():
            clusters, tokens = self.from_images(images), self.codes.from_images(images)
        return self.renderer.loss(clusters, tokens, noise)

    def parts(self) -> dict[str, nn.Module]:
        """Return the frozen network, the renderer, and the tokenizer that is rendered to."""
        return {"features": self.features, "renderer": self.renderer, "codes": self.codes}

    def last_layer(self) -> Tensor:
        """Return the renderer's last layer."""
        return self.renderer.head.weight

    def spread_units(self) -> list[nn.Module]:
        """Return the renderer's blocks."""
        return list(self.renderer.blocks)

    def pictures(self, latents: Tensor, layout: Grid) -> Float[Tensor, "batch channels height width"]:
        """Draw tokens for clusters, with noise that the clusters decide, and decode them."""
        with in_evaluation(self.renderer):
            tokens = self.tokens(latents)
        return self.codes.from_latents(tokens)

    def decode(self, latents: Any, layout: Layout | None = None) -> Float[Tensor, "batch channels height width"]:
        """Render numbers of clusters, a tensor, an array or a list, in the tokenizer's own layout. Raises UserError for what does not fit."""
        if layout not in (None, self.space.layout):
            raise UserError(
                f"layout {layout}: this tokenizer's clusters lie on {self.space.layout} alone, as its renderer has learned positions"
            )
        return super().decode(latents)

    def tokens(self, clusters: Int[Tensor, "batch given"]) -> Int[Tensor, "batch drawn"]:
        """Draw tokens for clusters: equal ones get equal tokens."""
        return self.renderer.draw(clusters, content_keys(clusters))

    def to_images(self, codes: Tensor, layout: Any) -> Float[Tensor, "batch channels height width"]:
        """Render centres, (batch positions code_dim)."""
        return self.pictures(self.quantizer.codes_to_indices(codes), layout)  # type: ignore[operator]

    def check_size(self, images: Tensor) -> None:
        """Raise UserError for images of another size than the renderer's."""
        wanted = (self.config.in_channels, *self.config.sides)
        if tuple(images.shape[1:]) != wanted:
            raise UserError(
                f"images {tuple(images.shape)}: this tokenizer takes (batch, {', '.join(map(str, wanted))})"
            )

    def resized(self, image_size: int) -> "RenderedTokenizer":
        """Return this tokenizer, at its own size. Raises UserError for another one."""
        if image_size != self.config.image_size:
            height, width = self.config.sides
            raise UserError(
                f"image size {image_size}: this tokenizer runs at its own {height}x{width} alone, as its renderer has learned positions"
            )
        return self

    def train(self, mode: bool = True) -> "RenderedTokenizer":
        """Switch the renderer alone; what is frozen stays in evaluation mode."""
        super().train(mode)
        self.codes.eval()
        return self
