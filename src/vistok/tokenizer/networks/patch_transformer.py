"""The transformers of TiTok (Yu et al. 2024, arXiv 2406.07550): patches go in and a line of latents comes out, and back.

Patches and latents are one sequence, in which all see all. Latents are learned, so they belong to no place in the image.
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.nn.bidirectional import BidirectionalAttention
from vistok.nn.linear import Linear
from vistok.nn.positions import fixed_positions
from vistok.space import Grid
from vistok.tokenizer.config import PatchTransformerConfig


def init_linear(module: nn.Module) -> None:
    """Set initial values of linear layers that suit any width: narrow ones would take long to leave normal(0, 0.02)."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


class PatchBlock(nn.Module):
    """A pre-norm block of a vision transformer: attention, then two layers with GELU between them, four times as wide."""

    def __init__(self, config: PatchTransformerConfig) -> None:
        super().__init__()
        width, eps = config.width, config.norm_eps
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.attention = BidirectionalAttention(width, config.num_heads, nn.LayerNorm if config.qk_norm else None)
        self.up, self.down = Linear(width, 4 * width, bias=True), Linear(4 * width, width, bias=True)

    def forward(self, x: Float[Tensor, "batch positions features"]) -> Float[Tensor, "batch positions features"]:
        """Map (batch, positions, width) to the same shape."""
        x = x + self.attention(self.attention_norm(x), None)
        return x + self.down(F.gelu(self.up(self.feed_forward_norm(x))))


class _Transformer(nn.Module):
    """Blocks over all patches followed by `extra` positions, and TiTok's class token if there is one, between two norms."""

    def __init__(self, config: PatchTransformerConfig, patches: Grid, extra: int) -> None:
        super().__init__()
        self.sides, self.patches = patches.sides, patches.positions
        # They begin with rows and columns known, which learning from noise would take thousands of steps for.
        self.patch_positions = nn.Parameter(fixed_positions(patches, config.width))
        self.extra_positions = nn.Parameter(torch.randn(extra, config.width))
        eps = config.norm_eps
        self.norm_in, self.norm_out = nn.LayerNorm(config.width, eps=eps), nn.LayerNorm(config.width, eps=eps)
        self.blocks = nn.ModuleList(PatchBlock(config) for _ in range(config.depth))
        self.class_token: nn.Parameter | None = None
        if config.class_token:
            self.class_token = nn.Parameter(torch.randn(config.width) * config.width**-0.5)

    def through_blocks(self, x: Float[Tensor, "batch positions features"]) -> Float[Tensor, "batch positions features"]:
        """Return what the blocks make of a sequence that has its positions; the class token comes last and is dropped."""
        length = x.shape[1]
        if self.class_token is not None:
            x = torch.cat([x, self.class_token.to(x.dtype).expand(len(x), 1, -1)], dim=1)
        x = self.norm_in(x)
        for block in self.blocks:
            x = block(x)
        return self.norm_out(x[:, :length])


class PatchEncoder(_Transformer):
    """Maps images to `latents` vectors, which gather what they need from all patches."""

    def __init__(self, config: PatchTransformerConfig, patches: Grid, patch: int, channels: int, latents: int) -> None:
        super().__init__(config, patches, latents)
        self.patch = patch
        self.embed = nn.Linear(channels * patch**2, config.width)
        init_linear(self)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch latents features"]:
        """Return the latents' outputs; those of the patches are dropped."""
        patches = F.pixel_unshuffle(images, self.patch).flatten(2).transpose(1, 2)
        x = self.embed(patches) + self.patch_positions
        latents = self.extra_positions.to(x.dtype).expand(len(x), -1, -1)
        return self.through_blocks(torch.cat([x, latents], dim=1))[:, self.patches :]


class LatentDecoder(_Transformer, ABC):
    """Maps latents to images: mask tokens at all places look at the latents, and a subclass makes pixels of them."""

    def __init__(self, config: PatchTransformerConfig, places: Grid, latents: int, code_dim: int) -> None:
        super().__init__(config, places, latents)
        self.embed = nn.Linear(code_dim, config.width)
        # At every place, and at latents that are missing.
        self.mask = nn.Parameter(torch.randn(config.width) * config.width**-0.5)

    def at_places(
        self, codes: Float[Tensor, "batch given code_dim"], lengths: Int[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch places width"]:
        """Return the outputs at all places, from the first codes of each line.

        `lengths`: how many of the given codes each image keeps. What is not given or not kept is missing.
        """
        x, latents = self.embed(codes), len(self.extra_positions)
        mask = self.mask.to(x.dtype)
        if lengths is not None:
            kept = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
            x = torch.where(kept[..., None], x, mask)
        x = torch.cat([x, mask.expand(len(x), latents - x.shape[1], -1)], dim=1) + self.extra_positions
        patches = (mask + self.patch_positions).expand(len(x), -1, -1)
        return self.through_blocks(torch.cat([patches.to(x.dtype), x], dim=1))[:, : self.patches]

    @abstractmethod
    def forward(
        self, codes: Float[Tensor, "batch given code_dim"], lengths: Int[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """Return images, near [-1, 1] and not clipped, from the first codes of each line (see `at_places`)."""

    @abstractmethod
    def last_layer(self) -> Tensor:
        """Return the weight that produces the pixels."""

    def spread_units(self) -> list[nn.Module]:
        """Return the parts that are recomputed, compiled and sharded individually."""
        return list(self.blocks)


class PatchDecoder(LatentDecoder):
    """Each place becomes a patch of pixels."""

    def __init__(
        self, config: PatchTransformerConfig, patches: Grid, patch: int, channels: int, latents: int, code_dim: int
    ) -> None:
        super().__init__(config, patches, latents, code_dim)
        self.patch = patch
        self.to_pixels = nn.Linear(config.width, channels * patch**2)
        # Smooths the seams between patches; at first it does nothing.
        self.smooth = nn.Conv2d(channels, channels, 3, padding=1)
        init_linear(self)
        nn.init.dirac_(self.smooth.weight)
        nn.init.zeros_(self.smooth.bias)  # type: ignore[arg-type]

    def forward(
        self, codes: Float[Tensor, "batch given code_dim"], lengths: Int[Tensor, "batch"] | None = None
    ) -> Float[Tensor, "batch channels height width"]:
        """Return images, near [-1, 1] and not clipped, from the first codes of each line (see `at_places`)."""
        x = self.to_pixels(self.at_places(codes, lengths))
        return self.smooth(F.pixel_shuffle(x.transpose(1, 2).unflatten(2, self.sides), self.patch))

    def last_layer(self) -> Tensor:
        """Return the layer that predicts patches: the convolution after it is too small to compare gradients at."""
        return self.to_pixels.weight
