"""Finite scalar quantization: round each bounded dimension (Mentzer et al. 2023, arXiv 2309.15505)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vistok.nn.precision import in_float32
from vistok.tokenizer.bottlenecks.base import (
    BottleneckOutput,
    Quantizer,
    contiguous_gradient,
    straight_through,
)
from vistok.tokenizer.bottlenecks.config import FSQConfig
from vistok.tokenizer.noise import Noise


class FSQ(Quantizer):
    """Codes are the points of a grid in [-1, 1]; dimension i has `levels[i]` values."""

    levels: Tensor
    basis: Tensor

    def __init__(self, config: FSQConfig) -> None:
        super().__init__()
        self.config = config
        self.codebook_size = config.codebook_size
        self.code_dim = config.code_dim
        levels = torch.tensor(config.levels)
        basis = torch.cat([torch.ones(1, dtype=torch.int64), levels[:-1].cumprod(0)])
        self.register_buffer("levels", levels, persistent=False)
        self.register_buffer("basis", basis, persistent=False)

    def bound(self, z_e: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch dim"]:
        """Squash to a range that rounds to exactly `levels` values, scaled to about [-1, 1]."""
        half_range = (self.levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0)
        shift = torch.atanh(offset / half_range)
        return (torch.tanh(z_e + shift) * half_range - offset) / self._half_width()

    def forward(self, z_e: Float[Tensor, "*batch dim"], noise: Noise | None = None) -> BottleneckOutput:
        """Quantize; there are no losses."""
        with in_float32(z_e):
            latents = contiguous_gradient(self.bound(z_e.float()))
            codes = (latents * self._half_width()).round() / self._half_width()
            error = (codes - latents).detach().square().sum(-1).mean()
            z_q = straight_through(latents, codes)
            return BottleneckOutput(latents, z_q, self.codes_to_indices(codes), {}, {"quantization_error": error})

    def indices_to_codes(self, indices: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """Return grid points in [-1, 1]."""
        digits = (indices[..., None] // self.basis) % self.levels
        return (digits - self._half_width()) / self._half_width()

    def codes_to_indices(self, codes: Float[Tensor, "*batch dim"]) -> Int[Tensor, "*batch"]:
        """Return mixed-radix numbers; the first dimension varies fastest."""
        digits = (codes * self._half_width()).round().to(torch.int64) + self._half_width()
        return (digits.clamp(min=0).minimum(self.levels - 1) * self.basis).sum(-1)

    def _half_width(self) -> Tensor:
        return self.levels // 2
