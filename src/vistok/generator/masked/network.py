"""The transformer of the masked family: the autoregressive family's blocks, in which every position sees all others.

Other blocks (`MaskedConfig.blocks`) are subclasses in files of their own.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vistok.generator.conditioning import ClassEmbedding
from vistok.generator.masked.config import MaskedConfig
from vistok.nn.bidirectional import BidirectionalAttention
from vistok.nn.linear import Linear
from vistok.nn.positions import rotary_table
from vistok.nn.rms_norm import RMSNorm
from vistok.nn.rope import with_class_token
from vistok.nn.transformer import SwiGLU, init_transformer
from vistok.space import Tokens


class HeadNorm(nn.LayerNorm):
    """Layer norm of queries and keys: a learned scale, no bias."""

    def __init__(self, width: int) -> None:
        super().__init__(width, bias=False)


class MaskedBlock(nn.Module):
    """Pre-norm transformer block without causality; dropout acts on both residual branches."""

    def __init__(self, config: MaskedConfig) -> None:
        super().__init__()
        self.attention_norm, self.feed_forward_norm = RMSNorm(config.width), RMSNorm(config.width)
        self.attention = BidirectionalAttention(config.width, config.num_heads, HeadNorm if config.qk_norm else None)
        self.feed_forward = SwiGLU(config.width, config.ffn_multiple)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Float[Tensor, "batch positions width"], table: tuple[Tensor, Tensor] | None
    ) -> Float[Tensor, "batch positions width"]:
        """Map (batch, positions, width) to the same shape; `table`: rotary cosines and sines, or None."""
        x = x + self.dropout(self.attention(self.attention_norm(x), table))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class MaskedNetwork(nn.Module):
    """Predicts the codes of masked tokens from the class and the other tokens. The code `mask` stands for a masked one."""

    blocks: nn.ModuleList
    norm: nn.Module
    head: nn.Module
    cos: Tensor
    sin: Tensor

    def __init__(self, config: MaskedConfig, space: Tokens, num_classes: int) -> None:
        super().__init__()
        self.config, self.mask = config, space.codebook_size
        num_tokens = space.layout.positions
        self.classes = ClassEmbedding(num_classes, config.width, config.label_dropout)
        self.token_embedding = nn.Embedding(space.codebook_size + 1, config.width)
        # Masked tokens are all alike, so rotary positions alone would hardly tell them where they are.
        self.places = nn.Embedding(num_tokens + 1, config.width)
        self.token_dropout = nn.Dropout(config.dropout)
        self.make_blocks(config, space.codebook_size)
        cos, sin = with_class_token(rotary_table(space.layout, config.width // config.num_heads), "identity")
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.init_weights()

    def init_weights(self) -> None:
        """Set all initial values: normal(0, 0.02), zeros for the head (so the loss starts at ln K) and biases."""
        init_transformer(self)
        nn.init.zeros_(self.head.weight)  # type: ignore[arg-type]

    def make_blocks(self, config: MaskedConfig, codes: int) -> None:
        """Make the blocks, the norm after them and the head."""
        self.blocks = nn.ModuleList(MaskedBlock(config) for _ in range(config.depth))
        self.norm = RMSNorm(config.width)
        self.head = Linear(config.width, codes)

    def through_blocks(self, x: Float[Tensor, "batch positions width"]) -> Iterator[Tensor]:
        """Yield what dropout and each block make of the class and the tokens with their places."""
        x = self.token_dropout(x)
        table = (self.cos, self.sin) if self.config.rotary else None
        for block in self.blocks:
            x = block(x, table)
            yield x

    def forward(
        self,
        tokens: Int[Tensor, "batch positions"],
        labels: Int[Tensor, "batch"],
        places: Int[Tensor, "batch some"] | None = None,
    ) -> Float[Tensor, "batch some codes"]:
        """Return logits for every token, or for those at `places`; in training mode some labels are dropped."""
        for x in self.layers(tokens, labels):  # noqa: B007 (the last one counts)
            pass
        x = x[:, 1:]
        if places is not None:
            x = x.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))
        return self.head(self.norm(x))

    def layers(self, tokens: Int[Tensor, "batch positions"], labels: Int[Tensor, "batch"]) -> Iterator[Tensor]:
        """Yield what comes out of each block, (batch, class and positions, width)."""
        x = torch.cat([self.classes(labels)[:, None], self.token_embedding(tokens)], dim=1)
        return self.through_blocks(x + self.places.weight)
