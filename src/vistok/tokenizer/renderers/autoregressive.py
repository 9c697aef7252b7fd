"""DiGIT's autoregressive second stage (arXiv 2410.12490, section 3.4): clusters, a start, and then the tokens one by one."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vistok.nn.filtering import filter_logits
from vistok.nn.keyed_noise import gumbel_noise
from vistok.nn.transformer import Block, init_transformer
from vistok.space import Tokens
from vistok.tokenizer.noise import Noise
from vistok.tokenizer.renderers.base import Renderer, pick
from vistok.tokenizer.renderers.config import AutoregressiveRendererConfig


class AutoregressiveRenderer(Renderer):
    """Every position sees those before it: all clusters, and the tokens that are there. Only tokens are predicted.

    Positions are learned, so that the blocks' rotation stands still.
    """

    config: AutoregressiveRendererConfig
    cos: Tensor
    sin: Tensor

    def __init__(self, config: AutoregressiveRendererConfig, clusters: Tokens, tokens: Tokens) -> None:
        super().__init__(config, clusters, tokens, extra_codes=1)
        pairs = config.width // config.num_heads // 2
        length = self.num_clusters + self.num_tokens
        self.register_buffer("cos", torch.ones(length, pairs), persistent=False)
        self.register_buffer("sin", torch.zeros(length, pairs), persistent=False)
        init_transformer(self)
        nn.init.zeros_(self.head.weight)

    def block(self) -> nn.Module:
        """Return a causal block."""
        config = self.config
        return Block(config.width, config.num_heads, config.ffn_multiple, dropout=config.dropout)

    def logits(
        self, clusters: Int[Tensor, "batch given"], tokens: Int[Tensor, "batch drawn"]
    ) -> Float[Tensor, "batch drawn codes"]:
        """Return logits of every token, given the clusters and the true tokens before it."""
        start = torch.full_like(tokens[:, :1], self.codebook_size)
        drawn = self.token_embedding(torch.cat([start, tokens[:, :-1]], dim=1)) + self.token_places.weight
        x = self.input_dropout(torch.cat([self.given(clusters), drawn], dim=1))
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return self.head(self.norm(x[:, self.num_clusters :]))

    def loss(
        self,
        clusters: Int[Tensor, "batch given"],
        tokens: Int[Tensor, "batch drawn"],
        noise: Noise | None = None,
    ) -> dict[str, Tensor]:
        """Return the mean cross-entropy of tokens, with labels smoothed."""
        return {"rendering_loss": self.smoothed(self.logits(clusters, tokens), tokens).mean()}

    @torch.no_grad()
    def draw(self, clusters: Int[Tensor, "batch given"], keys: Int[Tensor, "batch"]) -> Int[Tensor, "batch drawn"]:
        """Draw tokens one after another."""
        rows, given, config = len(clusters), self.num_clusters, self.config
        states = [block.attention.new_state(rows, given + self.num_tokens) for block in self.blocks]  # type: ignore[union-attr, operator]
        for place, column in enumerate(self.given(clusters).split(1, dim=1)):
            self._step(column, states, place)
        found = torch.full((rows, 1), self.codebook_size, device=clusters.device)
        tokens = [found]
        for place in range(self.num_tokens):
            x = self._step(self.token_embedding(found) + self.token_places.weight[place], states, given + place)
            logits = filter_logits(self.head(self.norm(x))[:, 0].float(), config)
            noise = gumbel_noise(config.seed, keys, place, self.codebook_size) if config.temperature else None
            found = pick(logits, noise)[:, None]
            tokens.append(found)
        return torch.cat(tokens[1:], dim=1)

    def _step(self, x: Tensor, states: list[list[Tensor]], place: int) -> Tensor:
        here = slice(place, place + 1)
        for block, state in zip(self.blocks, states, strict=True):
            x = block.step(x, state, self.cos[here], self.sin[here])  # type: ignore[operator]
        return x
