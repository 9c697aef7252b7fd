"""DiGIT's second stage without an order (arXiv 2410.12490, section 3.4): MaskGIT over the tokens, with all clusters visible."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vistok.errors import UserError
from vistok.nn.bidirectional import BidirectionalAttention
from vistok.nn.filtering import filter_logits
from vistok.nn.keyed_noise import gumbel_noise
from vistok.nn.masking import SCHEDULES, even_progress, masked_counts, masks, mean_share, still_masked
from vistok.nn.rms_norm import RMSNorm
from vistok.nn.transformer import SwiGLU, init_transformer
from vistok.rng import derive_seed, to_gumbel, uniform_grid
from vistok.space import Tokens
from vistok.tokenizer.noise import Noise
from vistok.tokenizer.renderers.base import Renderer, pick
from vistok.tokenizer.renderers.config import MaskedRendererConfig


class OpenBlock(nn.Module):
    """Pre-norm transformer block in which every position sees all others; dropout acts on both residual branches."""

    def __init__(self, config: MaskedRendererConfig) -> None:
        super().__init__()
        self.attention_norm, self.feed_forward_norm = RMSNorm(config.width), RMSNorm(config.width)
        self.attention = BidirectionalAttention(config.width, config.num_heads)
        self.feed_forward = SwiGLU(config.width, config.ffn_multiple)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Float[Tensor, "batch positions width"]) -> Float[Tensor, "batch positions width"]:
        """Map (batch, positions, width) to the same shape."""
        x = x + self.dropout(self.attention(self.attention_norm(x), None))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class MaskedRenderer(Renderer):
    """Predicts the tokens that are masked, from all clusters and the tokens that are not. One more code stands for a mask."""

    config: MaskedRendererConfig

    def __init__(self, config: MaskedRendererConfig, clusters: Tokens, tokens: Tokens) -> None:
        super().__init__(config, clusters, tokens, extra_codes=1)
        if config.steps > self.num_tokens:
            raise UserError(
                f"tokenizer.renderer.steps {config.steps}: an image has {self.num_tokens} tokens, and each step draws at least one; use at "
                f"most {self.num_tokens}"
            )
        init_transformer(self)
        nn.init.zeros_(self.head.weight)
        # Dividing by a batch's own number of masked tokens would make the loss depend on micro-batches.
        self.expected = mean_share(config.schedule, self.num_tokens)

    def block(self) -> nn.Module:
        """Return a block without an order."""
        return OpenBlock(self.config)

    def logits(
        self, clusters: Int[Tensor, "batch given"], tokens: Int[Tensor, "batch drawn"]
    ) -> Float[Tensor, "batch drawn codes"]:
        """Return logits of every token."""
        drawn = self.token_embedding(tokens) + self.token_places.weight
        x = self.input_dropout(torch.cat([self.given(clusters), drawn], dim=1))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, self.num_clusters :]))

    def loss(
        self,
        clusters: Int[Tensor, "batch given"],
        tokens: Int[Tensor, "batch drawn"],
        noise: Noise | None = None,
    ) -> dict[str, Tensor]:
        """Return the mean cross-entropy of masked tokens, with labels smoothed; each image's mask is keyed by its place."""
        if noise is None:
            seed, places = 0, torch.arange(len(tokens), device=tokens.device)
        else:
            seed, places = derive_seed(noise.seed, "renderer"), noise.places
        share = SCHEDULES[self.config.schedule](even_progress(seed, places))
        masked = masks(seed, places, masked_counts(share, self.num_tokens), self.num_tokens)
        seen = torch.where(masked, self.codebook_size, tokens)
        losses = self.smoothed(self.logits(clusters, seen), tokens)
        return {"rendering_loss": (masked * losses).mean() / self.expected}

    @torch.no_grad()
    def draw(self, clusters: Int[Tensor, "batch given"], keys: Int[Tensor, "batch"]) -> Int[Tensor, "batch drawn"]:
        """Draw the masked tokens at each step, and keep those it is surest of."""
        config, count, codes = self.config, self.num_tokens, self.codebook_size
        left = still_masked(config.schedule, config.steps, count)
        tokens = torch.full((len(clusters), count), codes, device=clusters.device)
        images = keys[:, None].expand(-1, count).flatten()
        for step, (before, after) in enumerate(zip(left[:-1], left[1:], strict=True)):
            logits = filter_logits(self.logits(clusters, tokens).float().flatten(0, 1), config)
            places = torch.arange(step * count, (step + 1) * count, device=keys.device).repeat(len(clusters))
            noise = gumbel_noise(config.seed, images, places, codes) if config.temperature else None
            drawn = pick(logits, noise)
            sure = logits.log_softmax(dim=-1).gather(1, drawn[:, None]).view(-1, count)
            choice = to_gumbel(uniform_grid(config.seed, keys, step, count, "confidence"))
            sure = sure + config.choice_temperature * (1 - (step + 1) / config.steps) * choice
            sure = sure.masked_fill(tokens != codes, -torch.inf)
            kept = sure.topk(before - after, dim=1).indices
            tokens = tokens.scatter(1, kept, drawn.view(-1, count).gather(1, kept))
        return tokens
