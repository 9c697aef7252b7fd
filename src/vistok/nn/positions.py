"""Positions of latents on a grid or a line, as rotary tables and as fixed vectors that are added."""

import torch
from jaxtyping import Float
from torch import Tensor

from vistok.nn.rope import axial_table
from vistok.space import Grid, Layout

BASE = 10_000.0


def rotary_table(
    layout: Layout, head_dim: int
) -> tuple[Float[Tensor, "positions pairs"], Float[Tensor, "positions pairs"]]:
    """Return (cos, sin): along rows and columns of a grid, half of the pairs each; along a line all of them."""
    if isinstance(layout, Grid):
        return axial_table(*layout.sides, head_dim)
    pairs = head_dim // 2
    frequencies = BASE ** (-torch.arange(pairs, dtype=torch.float32) / pairs)
    angles = torch.arange(layout.positions, dtype=torch.float32)[:, None] * frequencies
    return angles.cos(), angles.sin()


def fixed_positions(layout: Layout, width: int) -> Float[Tensor, "positions width"]:
    """Return sines and cosines of the column, then of the row (as in DiT; MAE); on a line, of the place alone."""
    if not isinstance(layout, Grid):
        return _waves(torch.arange(layout.positions), width)
    rows, columns = torch.meshgrid(torch.arange(layout.height), torch.arange(layout.width), indexing="ij")
    return torch.cat([_waves(columns.flatten(), width // 2), _waves(rows.flatten(), width // 2)], dim=1)


def _waves(places: Tensor, width: int) -> Tensor:
    frequencies = BASE ** (-torch.arange(width // 2, dtype=torch.float64) / (width // 2))
    angles = places.double()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()
