"""Conditioning a transformer on scalars and a class: embeddings of time, and blocks that they modulate (adaLN-zero)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

FREQUENCIES = 256


class TimeEmbedding(nn.Module):
    """Sines and cosines of a time in [0, 1], through two layers (as in DiT). `scale` multiplies the time first.

    DiT numbers its times 0...999; SiT and LightningDiT use [0, 1] as it is.
    """

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.first = nn.Linear(FREQUENCIES, width)
        self.second = nn.Linear(width, width)

    def forward(self, t: Float[Tensor, "batch"]) -> Float[Tensor, "batch width"]:
        """Embed times."""
        half = FREQUENCIES // 2
        frequencies = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
        angles = self.scale * t.float()[:, None] * frequencies
        waves = torch.cat([angles.cos(), angles.sin()], dim=1)
        return self.second(nn.functional.silu(self.first(waves.to(self.first.weight.dtype))))


class Modulation(nn.Module):
    """Makes `parts` vectors out of a condition; all are zero at first, so that a block begins as the identity."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.linear = nn.Linear(width, parts * width)

    def forward(self, condition: Float[Tensor, "batch width"]) -> tuple[Float[Tensor, "batch 1 width"], ...]:
        """Return the vectors, to be broadcast over positions."""
        return self.linear(nn.functional.silu(condition))[:, None].chunk(self.parts, dim=-1)

    def init_weights(self) -> None:
        """Set the weights to zero."""
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
