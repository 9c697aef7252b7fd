"""Causally Regularized Tokenization: a small causal model whose error also trains the encoder.

Ramanujan et al. 2024, arXiv 2412.16326, sections 3.6 and A.1. The model predicts latent i + 1 from
latents <= i, in raster order. Used while training only; encoding and decoding never import it.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.nn.rope import axial_table
from vistok.nn.transformer import Block, RMSNorm, init_transformer
from vistok.tokenizer.config import CRTConfig
from vistok.tokenizer.quantizers.base import QuantizerOutput, straight_through
from vistok.tokenizer.waiting import Waiting

Average = Callable[[Tensor], Tensor]


def alone(mean: Tensor) -> Tensor:
    """Return the mean of a process that holds the whole batch."""
    return mean


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.scale, None


def scale_gradient(x: Tensor, scale: float) -> Tensor:
    """Return `x` unchanged; its gradient is multiplied by `scale`."""
    return _ScaleGradient.apply(x, scale)


class CausalModel(nn.Module):
    """Linear in, blocks of the stage-2 transformer, norm, linear out."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: CRTConfig, code_dim: int, out_dim: int, grid: tuple[int, int]) -> None:
        super().__init__()
        self.embed = nn.Linear(code_dim, config.width)
        self.blocks = nn.ModuleList(
            Block(config.width, config.num_heads, config.ffn_multiple) for _ in range(config.num_layers)
        )
        self.norm = RMSNorm(config.width)
        self.out = nn.Linear(config.width, out_dim)
        cos, sin = axial_table(*grid, config.width // config.num_heads)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        init_transformer(self)

    def forward(self, latents: Float[Tensor, "batch positions dim"]) -> Float[Tensor, "batch positions out"]:
        """Return at position i the prediction for position i + 1."""
        x = self.embed(latents)
        positions = latents.shape[1]
        for block in self.blocks:
            x = block(x, self.cos[:positions], self.sin[:positions])
        return self.out(self.norm(x))


class CausalRegularizer(nn.Module):
    """The regularizer's loss, for each variant. `average`: see `batch_variance`."""

    def __init__(
        self,
        config: CRTConfig,
        code_dim: int,
        codebook_size: int,
        grid: tuple[int, int],
        average: Average = alone,
    ) -> None:
        super().__init__()
        self.config = config
        self.average = average
        out_dim = codebook_size if config.variant == "ce_post" else code_dim
        self.model = CausalModel(config, code_dim, out_dim, grid)
        self.waiting = Waiting(config.start_explained) if config.start_explained else None

    def forward(self, quantized: QuantizerOutput, weight: float) -> Float[Tensor, ""]:
        """Return the causal loss, unscaled; the gradient that leaves through the latents is times `weight`.

        So the causal model learns at its own pace whatever the weight (paper, A.1), and weight 0 is
        no regularizer at all.
        """
        # The one place where the regularizer's weight acts.
        latents = scale_gradient(quantized.latents, weight)
        if self.config.variant in ("l2_post", "ce_post"):
            latents = straight_through(latents, quantized.z_q)
        return self.prediction_loss(latents, quantized.indices)

    def spread_units(self) -> list[nn.Module]:
        """Return the parts that are recomputed, compiled and sharded one by one."""
        return list(self.model.blocks)

    def prediction_loss(
        self, latents: Float[Tensor, "batch positions dim"], indices: Int[Tensor, "batch positions"]
    ) -> Float[Tensor, ""]:
        """Return the error of predicting positions 1... from those before, by the variant's measure."""
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


def batch_variance(latents: Float[Tensor, "batch positions dim"], average: Average = alone) -> Float[Tensor, ""]:
    """Return the variance about the batch's mean latent, averaged over dimensions.

    `average` gives the mean over processes that each hold an equal part of the batch.
    """
    mean = average(latents.mean(dim=(0, 1), keepdim=True))
    return average((latents - mean).square().mean())
