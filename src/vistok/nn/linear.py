"""nn.Linear without bias, whose large float32 products run in oneDNN on a CPU.

torch multiplies float32 by MKL there; on an AMD CPU oneDNN is faster forward and for the inputs' gradient at the sizes of
a 111M generator, on an Intel one it is not (benchmarks/products.py). The weights' gradient stays with MKL.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.nn.linear_kernels import can_pack, on_mkls_own_cpu

# Multiply-adds from which the detour through a Python function is worth its microseconds.
LARGE = 2**27


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            to_x = torch.ops.mkldnn._linear_pointwise(gradient, weight.t(), None, "none", [], "")
        if ctx.needs_input_grad[1]:
            to_weight = gradient.flatten(0, -2).t() @ x.flatten(0, -2)
        return to_x, to_weight


class Linear(nn.Linear):
    """Map (..., inputs) to (..., outputs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x @ weight.T."""
        return _Product.apply(x, self.weight) if self._large(x) else F.linear(x, self.weight)

    def _large(self, x: Tensor) -> bool:
        return (
            not torch.compiler.is_compiling()  # first: what follows would break the graph
            and can_pack(self.weight)
            and x.dtype == self.weight.dtype
            and x.dim() >= 2
            and x.numel() * self.out_features >= LARGE
            and not torch.is_autocast_enabled("cpu")
            and not on_mkls_own_cpu()
        )
