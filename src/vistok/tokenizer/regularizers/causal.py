"""Causally Regularized Tokenization: a small causal model whose error also trains the encoder.

Ramanujan et al. 2024, arXiv 2412.16326, sections 3.6 and A.1. The model predicts latent i + 1 from latents <= i, in
raster order on a grid and along a line. It is used only during training; encoding and decoding never import it.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.engine.phase import PhaseLoss
from vistok.errors import UserError
from vistok.nn.positions import rotary_table
from vistok.nn.rms_norm import RMSNorm
from vistok.nn.transformer import Block, init_transformer
from vistok.space import Layout, Tokens
from vistok.tokenizer.bottlenecks.base import BottleneckOutput, straight_through
from vistok.tokenizer.latent_variance import batch_variance
from vistok.tokenizer.ramp import cosine_ramp
from vistok.tokenizer.regularizers.base import Regularizer, Seen, Setting
from vistok.tokenizer.regularizers.config import CausalConfig
from vistok.tokenizer.regularizers.waiting import Waiting
from vistok.units import Scale


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float | Tensor) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.scale, None


def scale_gradient(x: Tensor, scale: float | Tensor) -> Tensor:
    """Return `x` unchanged; its gradient is multiplied by `scale`."""
    return _ScaleGradient.apply(x, scale)


class CausalModel(nn.Module):
    """A linear layer, blocks of the stage-2 transformer, a norm and another linear layer."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: CausalConfig, code_dim: int, out_dim: int, layout: Layout) -> None:
        super().__init__()
        self.embed = nn.Linear(code_dim, config.width)
        self.blocks = nn.ModuleList(
            Block(config.width, config.num_heads, config.ffn_multiple) for _ in range(config.num_layers)
        )
        self.norm = RMSNorm(config.width)
        self.out = nn.Linear(config.width, out_dim)
        cos, sin = rotary_table(layout, config.width // config.num_heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        init_transformer(self)

    def forward(self, latents: Float[Tensor, "batch positions dim"]) -> Float[Tensor, "batch positions out"]:
        """Return the predictions; position i holds that for position i + 1."""
        x = self.embed(latents)
        positions = latents.shape[1]
        for block in self.blocks:
            x = block(x, self.cos[:positions], self.sin[:positions])
        return self.out(self.norm(x))


class CausalRegularizer(Regularizer):
    """The causal regularizer, in all variants."""

    name = "crt"
    config: CausalConfig

    def __init__(self, config: CausalConfig, facts: Setting) -> None:
        super().__init__()
        self.config = config
        self.average = facts.average
        if facts.layout.positions < 2:
            raise UserError(
                "the causal regularizer predicts each latent from those before it, and this tokenizer has one latent; give it two or "
                "more, or leave crt out"
            )
        out_dim = facts.dim
        if config.variant == "ce_post":
            if not isinstance(facts.space, Tokens):
                raise UserError(
                    "crt.variant ce_post predicts code numbers, but these latents are vectors; use an l2 variant"
                )
            out_dim = facts.space.codebook_size
        self.model = CausalModel(config, facts.dim, out_dim, facts.layout)
        self.waiting = Waiting(config.start_explained) if config.start_explained else None
        self.ramp = 0

    def begin(self, scale: Scale) -> None:
        """Convert the ramp to steps."""
        self.ramp = self.config.ramp.to_steps(scale)

    def weight(self, step: int) -> float | Float[Tensor, ""]:
        """Return the weight at a step: 0 until reconstructions are good enough, then the ramp."""
        ramp = self.waiting.ramp(step, self.ramp) if self.waiting else cosine_ramp(step, 0, self.ramp)
        return self.config.full_weight * ramp

    def forward(self, seen: Seen, step: int) -> PhaseLoss:
        """Return the unscaled causal loss; its gradient into the latents is multiplied by the step's weight."""
        statistics = {}
        if self.waiting is not None:
            self.waiting.see(seen.reconstruction, seen.images)
            statistics["explained_share"] = self.waiting.explained.clone()
        weight = self.weight(step)
        loss = self.loss(seen.bottleneck, weight)
        statistics["crt_weight"] = torch.zeros_like(loss) + weight
        return PhaseLoss({"causal_loss": loss}, statistics)

    def after_step(self, step: int) -> None:
        """Update the condition that the regularizer waits for."""
        if self.waiting is not None:
            self.waiting.after_step(step, self.average)

    def loss(self, bottleneck: BottleneckOutput, weight: float | Tensor) -> Float[Tensor, ""]:
        """Return the unscaled causal loss; its gradient into the latents is multiplied by `weight`.

        The causal model thus learns at the same pace whatever the weight (paper, A.1), and weight 0 means no
        regularization at all.
        """
        # The only place where the regularizer's weight takes effect.
        latents = scale_gradient(bottleneck.latents, weight)
        if self.config.variant in ("l2_post", "ce_post"):
            latents = straight_through(latents, bottleneck.decoded)
        return self.prediction_loss(latents, bottleneck.stored)

    def spread_units(self) -> list[nn.Module]:
        """Return the parts that are recomputed, compiled and sharded individually."""
        return list(self.model.blocks)

    def prediction_loss(self, latents: Float[Tensor, "batch positions dim"], indices: Tensor) -> Float[Tensor, ""]:
        """Return the error of predicting positions 1... from those before them, as the variant measures it."""
        predicted = self.model(latents[:, :-1]).float()
        if self.config.variant == "ce_post":
            return F.cross_entropy(predicted.flatten(0, 1), indices[:, 1:].flatten())
        target = latents[:, 1:]
        if self.config.detach_target:
            target = target.detach()
        error = F.mse_loss(predicted, target)
        if self.config.variant == "l2_pre_normalized":
            return error / (batch_variance(target, self.average) * target.shape[-1])
        return error
