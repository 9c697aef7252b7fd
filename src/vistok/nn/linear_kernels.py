"""Matrix products of frozen weights with a few rows: most of the work of sampling token by token.

On a CPU, oneDNN reads a weight in its blocked layout faster than MKL reads it in plain row-major order
(benchmarks/products.py), except for one to three rows on an Intel CPU. On other devices, and where torch was built
without oneDNN, the plain product is used.
"""

import platform
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

# Any hint of 2 or more gives the layout that is fast for 1 to 32 rows; a hint of 1 gives one that is slow beyond 1 row.
_ROWS_HINT = 8
# Up to this many rows, MKL reads at memory speed on the CPUs it was written for.
_FEW_ROWS = 3

# How weights are rounded before they are used: to eight bits with a scale for each output, or to bfloat16.
Rounding = Literal["none", "int8", "bfloat16"]


class PlainLinear:
    """x @ weight.T, optionally fused with the operation that follows."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def __call__(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        return F.linear(x, self.weight)

    def silu(self, x: Tensor) -> Tensor:
        """Return silu of the product."""
        return F.silu(self(x))

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """Return the product times `other`."""
        return self(x) * other

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """Return the product plus `other`."""
        return self(x) + other


class PackedLinear(PlainLinear):
    """The same from a copy of the weight in oneDNN's layout; the operation that follows is done in the same pass."""

    def __init__(self, weight: Tensor, few_rows: int = 0) -> None:
        super().__init__(weight)
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS_HINT)
        self.few_rows = few_rows

    def _few(self, x: Tensor) -> bool:
        return x.numel() <= self.few_rows * x.shape[-1]

    def __call__(self, x: Tensor) -> Tensor:
        """Do as PlainLinear does."""
        if self._few(x):
            return super().__call__(x)
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, None, "none", [], "")

    def silu(self, x: Tensor) -> Tensor:
        """Do as PlainLinear does."""
        if self._few(x):
            return super().silu(x)
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, None, "swish", [], "")

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """Do as PlainLinear does."""
        if self._few(x):
            return super().times(x, other)
        return torch.ops.mkldnn._linear_pointwise.binary(x, other, self.packed, None, "mul")

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """Do as PlainLinear does."""
        if self._few(x):
            return super().plus(x, other)
        return torch.ops.mkldnn._linear_pointwise.binary(x, other, self.packed, None, "add")


def to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a weight (outputs, inputs) rounded to 255 levels per output, and the step between levels, (outputs,)."""
    scale = weight.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / 127
    return (weight / scale[:, None]).round().to(torch.int8), scale


def rounded(weight: Tensor, rounding: Rounding) -> Tensor:
    """Return a weight with the values that are left of it, in its own dtype."""
    if rounding == "int8":
        values, scale = to_int8(weight)
        return (values * scale[:, None]).to(weight.dtype)
    return weight.to(torch.bfloat16).to(weight.dtype) if rounding == "bfloat16" else weight


def can_pack(weight: Tensor) -> bool:
    """Whether oneDNN can pack this weight: it must be float32, on a CPU, in a torch built with oneDNN."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()


@cache
def on_mkls_own_cpu() -> bool:
    """Whether torch multiplies with MKL on an Intel CPU, the kind MKL was written for."""
    listing = Path("/proc/cpuinfo")
    about = listing.read_text() if listing.is_file() else platform.processor()
    return "GenuineIntel" in about and torch.backends.mkl.is_available()


def frozen_linear(weight: Tensor, rounding: Rounding = "none") -> PlainLinear:
    """Return the fastest product with a weight (outputs, inputs), rounded, that will not change while the product is in use."""
    weight = rounded(weight.detach(), rounding)
    return PackedLinear(weight, _FEW_ROWS if on_mkls_own_cpu() else 0) if can_pack(weight) else PlainLinear(weight)
