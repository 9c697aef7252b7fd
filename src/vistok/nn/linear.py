"""nn.Linear; on a CPU its large float32 products run in oneDNN.

By default torch uses MKL for them. At the sizes of a 111M generator, oneDNN is faster for the forward pass and for the
inputs' gradient on AMD CPUs, but not on Intel CPUs (benchmarks/products.py). The weights' gradient stays with MKL.
"""

from typing import Any

import torch
from torch import Tensor, nn

from vistok.nn.linear_kernels import can_pack, on_mkls_own_cpu

# Number of multiply-adds from which the microseconds of a detour through Python pay off.
LARGE = 2**27


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        to_x = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            to_x = torch.ops.mkldnn._linear_pointwise(gradient, weight.t(), None, "none", [], "")
        if ctx.needs_input_grad[1]:
            to_weight = gradient.flatten(0, -2).t() @ x.flatten(0, -2)
        if ctx.needs_input_grad[2]:
            to_bias = gradient.flatten(0, -2).sum(0)
        return to_x, to_weight, to_bias


class Linear(nn.Linear):
    """Map (..., inputs) to (..., outputs)."""

    def __init__(self, inputs: int, outputs: int, bias: bool = False) -> None:
        super().__init__(inputs, outputs, bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return x @ weight.T, plus the bias if there is one."""
        return _Product.apply(x, self.weight, self.bias) if self._large(x) else super().forward(x)

    def _large(self, x: Tensor) -> bool:
        return (
            not torch.compiler.is_compiling()  # must come first: the other conditions would break the graph
            and not torch._C._are_functorch_transforms_active()  # which go through torch's own operations only
            and can_pack(self.weight)
            and x.dtype == self.weight.dtype
            and x.dim() >= 2
            and x.numel() * self.out_features >= LARGE
            and not torch.is_autocast_enabled("cpu")
            and not on_mkls_own_cpu()
        )
