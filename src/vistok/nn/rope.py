"""Two-dimensional axial rotary position tables (as in LlamaGen; base 10,000)."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

ClassTokenRotary = Literal["identity", "zero"]


def axial_table(
    height: int, width: int, head_dim: int, base: float = 10_000.0
) -> tuple[Float[Tensor, "positions pairs"], Float[Tensor, "positions pairs"]]:
    """Return (cos, sin) for a raster grid, each (height * width, head_dim / 2).

    The first half of the pairs rotates with the row, the second half with the column.
    Raises ValueError where head_dim is not a multiple of 4.
    """
    if head_dim % 4:
        raise ValueError(f"head_dim must be a multiple of 4 for 2-D rotary positions, found {head_dim}")
    quarter = head_dim // 4
    frequencies = base ** (-torch.arange(quarter, dtype=torch.float32) / quarter)
    rows = torch.arange(height, dtype=torch.float32)[:, None] * frequencies
    columns = torch.arange(width, dtype=torch.float32)[:, None] * frequencies
    angles = torch.cat(
        [rows[:, None, :].expand(-1, width, -1), columns[None, :, :].expand(height, -1, -1)], dim=-1
    ).reshape(height * width, 2 * quarter)
    return angles.cos(), angles.sin()


def with_class_token(
    table: tuple[Tensor, Tensor], mode: ClassTokenRotary
) -> tuple[Float[Tensor, "positions pairs"], Float[Tensor, "positions pairs"]]:
    """Prepend the class token's row: `identity` leaves its query and key unchanged, `zero` sets them to zero."""
    cos, sin = table
    first = torch.ones_like(cos[:1]) if mode == "identity" else torch.zeros_like(cos[:1])
    return torch.cat([first, cos]), torch.cat([torch.zeros_like(sin[:1]), sin])


def apply_rotary(
    x: Float[Tensor, "batch heads positions head_dim"],
    cos: Float[Tensor, "positions pairs"],
    sin: Float[Tensor, "positions pairs"],
) -> Float[Tensor, "batch heads positions head_dim"]:
    """Rotate neighbouring pairs (0,1), (2,3)... of the last axis by the table's angles, in float32."""
    if torch.compiler.is_compiling():
        return turn_even_and_odd(x, cos, sin)
    return turn_pairs(x, as_turns(cos, sin))


def turn_even_and_odd(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Do the same as `apply_rotary` for the compiler, which lacks complex numbers and fuses these products into one loop."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
    return turned.flatten(-2).to(x.dtype)


def as_turns(cos: Tensor, sin: Tensor) -> Tensor:
    """Return the table as complex numbers (positions pairs): complex64 even where a cast model's table is bfloat16."""
    return torch.complex(cos.float(), sin.float())


def turn_pairs(x: Float[Tensor, "*batch head_dim"], turns: Tensor) -> Float[Tensor, "*batch head_dim"]:
    """Multiply neighbouring pairs, as complex numbers, by `turns` (complex64, broadcast to pairs), in float32.

    One product instead of six (benchmarks/step_overheads.py), with identical results.
    """
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turns).flatten(-2).to(x.dtype)
