"""Matrix products of frozen weights with few rows, which is what writing token after token is made of.

On a CPU, oneDNN's blocked layout reads a weight faster than MKL does the plain row-major one (benchmarks/products.py),
but for one to three rows on an Intel one. Elsewhere, and where torch comes without oneDNN, the plain product.
"""

import platform
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

# Any hint from 2 on gives the layout that is fast from 1 to 32 rows; 1 gives one that is slow above.
_ROWS_HINT = 8
# Up to here MKL reads at the speed of memory, on the CPUs that it is written for.
_FEW_ROWS = 3


class PlainLinear:
    """x @ weight.T, with what may follow it at once."""

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
    """The same from a copy of the weight in oneDNN's own layout, which also does what follows in one pass."""

    def __init__(self, weight: Tensor, few_rows: int = 0) -> None:
        super().__init__(weight)
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, _ROWS_HINT)
        self.few_rows = few_rows

    def _few(self, x: Tensor) -> bool:
        return x.numel() <= self.few_rows * x.shape[-1]

    def __call__(self, x: Tensor) -> Tensor:
        """As PlainLinear's."""
        if self._few(x):
            return super().__call__(x)
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, None, "none", [], "")

    def silu(self, x: Tensor) -> Tensor:
        """As PlainLinear's."""
        if self._few(x):
            return super().silu(x)
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, None, "swish", [], "")

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """As PlainLinear's."""
        if self._few(x):
            return super().times(x, other)
        return torch.ops.mkldnn._linear_pointwise.binary(x, other, self.packed, None, "mul")

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """As PlainLinear's."""
        if self._few(x):
            return super().plus(x, other)
        return torch.ops.mkldnn._linear_pointwise.binary(x, other, self.packed, None, "add")


def to_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a weight (outputs, inputs) rounded to 255 levels per output, and the size of a level, (outputs,)."""
    scale = weight.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / 127
    return (weight / scale[:, None]).round().to(torch.int8), scale


def can_pack(weight: Tensor) -> bool:
    """Whether oneDNN's layout exists for this weight: float32 on a CPU, by a torch that has it."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()


@cache
def on_mkls_own_cpu() -> bool:
    """Whether torch multiplies by MKL on an Intel CPU, for which MKL is written."""
    listing = Path("/proc/cpuinfo")
    about = listing.read_text() if listing.is_file() else platform.processor()
    return "GenuineIntel" in about and torch.backends.mkl.is_available()


def frozen_linear(weight: Tensor, int8: bool = False) -> PlainLinear:
    """Return the fastest product with a weight that will not change while it is in use: (outputs, inputs).

    With `int8` it multiplies by what `to_int8` makes of the weight.
    """
    weight = weight.detach()
    if int8:
        values, scale = to_int8(weight)
        weight = (values * scale[:, None]).to(weight.dtype)
    return PackedLinear(weight, _FEW_ROWS if on_mkls_own_cpu() else 0) if can_pack(weight) else PlainLinear(weight)
