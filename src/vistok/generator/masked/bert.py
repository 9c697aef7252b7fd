"""MaskGIT's and TiTok's own transformer: BERT's blocks, which normalise after each branch (Devlin et al. 2018, 1810.04805)."""

from collections.abc import Iterator

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.generator.masked.config import MaskedConfig
from vistok.generator.masked.network import MaskedNetwork
from vistok.nn.bidirectional import BidirectionalAttention
from vistok.nn.linear import Linear

EPS = 1e-12


class BertBlock(nn.Module):
    """Attention, then two layers with GELU between them, four times as wide; a norm follows each sum."""

    def __init__(self, config: MaskedConfig) -> None:
        super().__init__()
        width = config.width
        self.attention = BidirectionalAttention(width, config.num_heads)
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(width, eps=EPS), nn.LayerNorm(width, eps=EPS)
        self.up, self.down = Linear(width, 4 * width, bias=True), Linear(4 * width, width, bias=True)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "batch positions width"]) -> Float[Tensor, "batch positions width"]:
        """Map (batch, positions, width) to the same shape."""
        x = self.attention_norm(x + self.dropout(self.attention(x, None)))
        return self.feed_forward_norm(x + self.dropout(self.down(F.gelu(self.up(x)))))


class BertNetwork(MaskedNetwork):
    """BERT with a head of its own weights, as in TiTok's code (MaskGIT's shares them with the embedding).

    The original also drops attention weights.
    """

    def make_blocks(self, config: MaskedConfig, codes: int) -> None:
        """Make the norm of the embeddings, the blocks, and the head, before which there is no other norm."""
        self.embedding_norm = nn.LayerNorm(config.width, eps=EPS)
        self.blocks = nn.ModuleList(BertBlock(config) for _ in range(config.depth))
        self.norm, self.head = nn.Identity(), Linear(config.width, codes, bias=True)

    def through_blocks(self, x: Float[Tensor, "batch positions width"]) -> Iterator[Tensor]:
        """Yield what dropout and each block make of the class and the tokens with their places."""
        x = self.token_dropout(self.embedding_norm(x))
        for block in self.blocks:
            x = block(x)
            yield x
