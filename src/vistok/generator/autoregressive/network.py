"""The class-conditional autoregressive transformer (CRT paper A.2; the Llama block of LlamaGen, QK-norm)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.errors import UserError
from vistok.generator.autoregressive.config import AutoregressiveConfig
from vistok.generator.conditioning import ClassEmbedding
from vistok.generator.interface import Generator
from vistok.nn.linear import Linear
from vistok.nn.mixers.softmax import Attention
from vistok.nn.positions import rotary_table
from vistok.nn.rms_norm import RMSNorm
from vistok.nn.rope import with_class_token
from vistok.nn.transformer import Block, init_transformer
from vistok.space import Space, Tokens


class AutoregressiveNetwork(Generator):
    """Predicts token i from the class token and the tokens before i, in raster order on a grid and along a line."""

    config: AutoregressiveConfig
    space: Tokens
    cos: Tensor
    sin: Tensor

    def __init__(self, config: AutoregressiveConfig, space: Space, num_classes: int) -> None:
        super().__init__()
        if not isinstance(space, Tokens):
            raise UserError(
                f"an autoregressive generator writes tokens, but these latents are {space}; use a tokenizer with the vq or fsq "
                "bottleneck, or a flow generator"
            )
        self.config, self.space = config, space
        self.num_tokens = space.layout.positions
        self.codebook_size = codebook_size = space.codebook_size
        self.num_classes = num_classes
        self.classes = ClassEmbedding(num_classes, config.width, config.label_dropout)
        self.token_embedding = nn.Embedding(codebook_size, config.width)
        self.token_dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(config.width, config.num_heads, config.ffn_multiple, config.qk_norm, config.dropout, config.mixer)
            for _ in range(config.depth)
        )
        self.norm = RMSNorm(config.width)
        self.head = Linear(config.width, codebook_size)
        table = rotary_table(space.layout, config.width // config.num_heads)
        # The last token is never an input, so it needs no position.
        cos, sin = with_class_token(table, config.class_token_rotary)
        self.register_buffer("cos", cos[: self.num_tokens], persistent=False)
        self.register_buffer("sin", sin[: self.num_tokens], persistent=False)
        self.init_weights()

    def init_weights(self) -> None:
        """Set all initial values: normal(0, 0.02), zeros for the head (so the loss starts at ln K), ones for norms."""
        init_transformer(self)
        nn.init.zeros_(self.head.weight)

    def spread_units(self) -> list[nn.Module]:
        """Return the parts that are recomputed, compiled and sharded individually."""
        return list(self.blocks)

    @property
    def is_plain(self) -> bool:
        """Whether all blocks are `Block`s with softmax attention."""
        return self._first_other() is None

    def plain_blocks(self) -> list[Block]:
        """Return the blocks, for code that computes `Block.forward` from their weights.

        Raises TypeError for any other kind of block, which would otherwise be skipped or computed wrongly.
        """
        if (number := self._first_other()) is not None:
            block = self.blocks[number]
            mixer = type(getattr(block, "attention", None)).__name__
            raise TypeError(
                f"block {number} is a {type(block).__name__} with {mixer}: fast sampling reimplements the forward pass of "
                f"{Block.__name__} with {Attention.__name__}, so it cannot run any other kind"
            )
        return [block for block in self.blocks if isinstance(block, Block)]

    def _first_other(self) -> int | None:
        for number, block in enumerate(self.blocks):
            plain = isinstance(block, Block) and type(block).forward is Block.forward
            if not plain or type(block.attention) is not Attention:
                return number
        return None

    def forward(
        self, tokens: Int[Tensor, "batch positions"], labels: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch positions codes"]:
        """Return logits for every position, given the true tokens before it (teacher forcing)."""
        x = torch.cat([self.classes(labels)[:, None], self.token_embedding(tokens[:, :-1])], dim=1)
        x = self.token_dropout(x)
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.head(self.norm(x))

    @property
    def num_layers(self) -> int:
        """The number of blocks."""
        return len(self.blocks)

    @property
    def null_label(self) -> int | None:
        """The label of no class."""
        return self.classes.null_label if self.config.label_dropout else None

    def inner(
        self, tokens: Int[Tensor, "batch positions"], labels: Int[Tensor, "batch"]
    ) -> list[Float[Tensor, "batch width"]]:
        """Return what comes out of each block, averaged over the tokens that it has seen."""
        x, found = torch.cat([self.classes(labels)[:, None], self.token_embedding(tokens[:, :-1])], dim=1), []
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
            found.append(x[:, 1:].mean(dim=1) if x.shape[1] > 1 else x[:, 0])
        return found

    def logits(
        self, tokens: Int[Tensor, "batch positions"], labels: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch positions codes"]:
        """Return logits for every position, given the true tokens before it."""
        return self(tokens, labels)

    def nats(
        self, tokens: Int[Tensor, "batch positions"], labels: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch positions"]:
        """Return nats per image and position."""
        return _nats(self(tokens, labels), tokens)

    def nats_and_normalizer(
        self, tokens: Int[Tensor, "batch positions"], labels: Int[Tensor, "batch"]
    ) -> tuple[Float[Tensor, "batch positions"], Float[Tensor, "batch positions"]]:
        """Return nats, and the squared log-normaliser of the logits (the z-loss), per image and position."""
        logits = self(tokens, labels)
        return _nats(logits, tokens), logits.float().logsumexp(-1).square()


def _nats(logits: Tensor, tokens: Tensor) -> Tensor:
    return F.cross_entropy(logits.float().flatten(0, 1), tokens.flatten(), reduction="none").view_as(tokens)
