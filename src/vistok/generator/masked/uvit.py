"""The transformer of TiTok-S-128's generator: blocks with long skips, U-ViT's (Bao et al. 2022, arXiv 2209.12152)."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.generator.masked.config import MaskedConfig
from vistok.generator.masked.network import MaskedNetwork
from vistok.nn.bidirectional import BidirectionalAttention
from vistok.nn.linear import Linear


class UViTBlock(nn.Module):
    """A pre-norm block of a vision transformer. With `skip` it first joins what an early block gave."""

    def __init__(self, config: MaskedConfig, skip: bool) -> None:
        super().__init__()
        width = config.width
        self.skip = Linear(2 * width, width, bias=True) if skip else None
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = BidirectionalAttention(width, config.num_heads, qkv_bias=False)
        self.up, self.down = Linear(width, 4 * width, bias=True), Linear(4 * width, width, bias=True)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Float[Tensor, "batch positions width"], early: Float[Tensor, "batch positions width"] | None = None
    ) -> Float[Tensor, "batch positions width"]:
        """Map (batch, positions, width) to the same shape."""
        if self.skip is not None and early is not None:
            x = self.skip(torch.cat([x, early], dim=-1))
        x = x + self.dropout(self.attention(self.attention_norm(x), None))
        return x + self.dropout(self.down(F.gelu(self.up(self.feed_forward_norm(x)))))


class UViTNetwork(MaskedNetwork):
    """As many blocks as `depth` and one in the middle; the second half sees the outputs of the first, the last one first."""

    def make_blocks(self, config: MaskedConfig, codes: int) -> None:
        """Make the blocks, the norm after them and the head."""
        self.middle = config.depth // 2
        self.blocks = nn.ModuleList(UViTBlock(config, skip=i > self.middle) for i in range(2 * self.middle + 1))
        self.norm, self.head = nn.LayerNorm(config.width), Linear(config.width, codes, bias=True)

    def through_blocks(self, x: Float[Tensor, "batch positions width"]) -> Iterator[Tensor]:
        """Yield what each block makes of the class and the tokens with their places."""
        x = self.token_dropout(x)
        early: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            x = block(x, early.pop()) if i > self.middle else block(x)
            if i < self.middle:
                early.append(x)
            yield x
