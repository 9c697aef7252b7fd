"""The contract for renderers."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.nn.linear import Linear
from vistok.nn.rms_norm import RMSNorm
from vistok.space import Tokens
from vistok.tokenizer.noise import Noise
from vistok.tokenizer.renderers.config import RendererConfig


class Renderer(nn.Module, ABC):
    """Reads clusters and draws tokens. Both have embeddings and learned positions of their own."""

    def __init__(self, config: RendererConfig, clusters: Tokens, tokens: Tokens, extra_codes: int) -> None:
        super().__init__()
        self.config, self.codebook_size = config, tokens.codebook_size
        self.num_clusters, self.num_tokens = clusters.layout.positions, tokens.layout.positions
        self.cluster_embedding = nn.Embedding(clusters.codebook_size, config.width)
        self.cluster_places = nn.Embedding(self.num_clusters, config.width)
        self.token_embedding = nn.Embedding(tokens.codebook_size + extra_codes, config.width)
        self.token_places = nn.Embedding(self.num_tokens, config.width)
        self.blocks = nn.ModuleList(self.block() for _ in range(config.depth))
        self.input_dropout = nn.Dropout(config.dropout)
        self.norm, self.head = RMSNorm(config.width), Linear(config.width, tokens.codebook_size)

    @abstractmethod
    def block(self) -> nn.Module:
        """Return a new block of the transformer."""

    @abstractmethod
    def loss(
        self,
        clusters: Int[Tensor, "batch given"],
        tokens: Int[Tensor, "batch drawn"],
        noise: Noise | None = None,
    ) -> dict[str, Tensor]:
        """Return named terms to minimise; what is random in them comes from `noise`."""

    @abstractmethod
    def draw(self, clusters: Int[Tensor, "batch given"], keys: Int[Tensor, "batch"]) -> Int[Tensor, "batch drawn"]:
        """Return tokens for clusters, with noise that each image's key decides."""

    def given(self, clusters: Int[Tensor, "batch given"]) -> Float[Tensor, "batch given width"]:
        """Embed clusters with their places."""
        return self.cluster_embedding(clusters) + self.cluster_places.weight

    def smoothed(
        self, logits: Float[Tensor, "batch drawn codes"], tokens: Int[Tensor, "batch drawn"]
    ) -> Float[Tensor, "batch drawn"]:
        """Return the cross-entropy of each token, with labels smoothed."""
        smoothing = self.config.label_smoothing if self.training else 0.0
        found = F.cross_entropy(
            logits.float().flatten(0, 1), tokens.flatten(), reduction="none", label_smoothing=smoothing
        )
        return found.view_as(tokens)


def pick(logits: Float[Tensor, "rows codes"], noise: Float[Tensor, "rows codes"] | None) -> Int[Tensor, "rows"]:
    """Return the code with the largest logit, after Gumbel noise if there is any."""
    return torch.argmax(logits if noise is None else logits + noise, dim=-1)
