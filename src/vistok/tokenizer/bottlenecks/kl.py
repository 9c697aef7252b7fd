"""Vectors as normal distributions: the bottleneck of a variational autoencoder (Kingma and Welling 2013, arXiv 1312.6114)."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vistok.nn.precision import in_float32
from vistok.tokenizer.bottlenecks.base import UNIT_VARIANCE, Bottleneck, BottleneckOutput
from vistok.tokenizer.bottlenecks.config import KLConfig
from vistok.tokenizer.noise import Noise

# Of log variances, as in latent-diffusion.
LEAST, MOST = -30.0, 20.0
# The standard deviation with which `begin` starts; latents of images have one of about 0.5.
SMALL = 0.02


class KL(Bottleneck):
    """Means and log variances; the decoder gets a draw in training and the mean otherwise."""

    vector_scale = UNIT_VARIANCE

    def __init__(self, config: KLConfig) -> None:
        super().__init__()
        self.config = config
        self.in_dim, self.code_dim = 2 * config.dim, config.dim

    @torch.no_grad()
    def begin(self, leading: Any) -> None:
        """Start with small deviations: at 1, their noise would hide what the means say already."""
        leading.weight[self.config.dim :].zero_()
        leading.bias[self.config.dim :].fill_(2 * math.log(SMALL))

    def forward(self, z_e: Float[Tensor, "batch positions numbers"], noise: Noise | None = None) -> BottleneckOutput:
        """Draw vectors for the decoder, with torch's noise if none is given; regularizers see the means."""
        with in_float32(z_e):
            mean, log_variance = z_e.float().chunk(2, dim=-1)
            log_variance = log_variance.clamp(LEAST, MOST)
            deviation = (log_variance / 2).exp()
            drawn = mean
            if self.training:
                normal = torch.randn_like(mean) if noise is None else noise.normal("posterior", mean.shape[1:])
                drawn = mean + deviation * normal
            divergence = 0.5 * (mean.square() + deviation.square() - 1 - log_variance)
            losses = {"kl_loss": self.config.weight * divergence.mean()}
            statistics = {
                "kl_nats": divergence.detach().flatten(1).sum(1).mean(),
                "deviation": deviation.detach().mean(),
            }
            stored = torch.cat([mean, deviation], dim=-1).detach()
            return BottleneckOutput(mean, drawn, stored, losses, statistics)

    def to_decoder(self, latents: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Return the vectors unchanged."""
        return latents

    def from_stored(self, stored: Float[Tensor, "*batch numbers"]) -> Float[Tensor, "*batch dim"]:
        """Return the means."""
        return stored.chunk(2, dim=-1)[0]
