"""Root-mean-square norm, with a scale and a shift for each image where a condition makes them, in C++ where possible (rms_norm.cpp).

That is for float32 on a CPU, with a compiler, also under autocast. Otherwise, and when gradients of gradients are taken, these
are torch's operators; results agree within rounding.
"""

import ctypes
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vistok.nn.native_library import compiled_library
from vistok.nn.native_operator import differentiable, learned, takes, threads_for

# By default eps is Llama's.
RMS_EPS = 1e-5
SOURCE = Path(__file__).with_name("rms_norm.cpp")
# Rows whose gradients are summed before those of others, where no scale or shift says which rows belong together.
ROWS = 64


class RMSNorm(nn.Module):
    """Root-mean-square norm with a learned scale; computed in float32 even under autocast."""

    def __init__(self, width: int, eps: float = RMS_EPS) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., width) to the same shape: normalise the last axis."""
        if not (takes(x, self.weight) and _lies_well(x, self.weight)):
            return _by_torch(x, self.weight, None, None, self.eps)
        return _normed(x, self.weight, None, None, self.eps)

    def modulated(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        """Return the norm of x, (batch, positions, width), times (1 + scale), plus shift; these are (batch, 1, width)."""
        if x.dtype == torch.float32:  # under autocast these are shorter
            shift, scale = shift.float(), scale.float()
        alike = shift.shape == scale.shape == (len(x), 1, x.shape[-1]) and shift.stride() == scale.stride()
        if not (takes(x, self.weight, shift, scale) and _lies_well(x, self.weight) and alike and shift.stride(-1) == 1):
            return _by_torch(x, self.weight, shift, scale, self.eps)
        return _normed(x, self.weight, shift, scale, self.eps)


def _by_torch(x: Tensor, weight: Tensor, shift: Tensor | None, scale: Tensor | None, eps: float) -> Tensor:
    # Few kernels: F.rms_norm needs ten on a CPU and takes twice as long. No dot product, which autocast would round.
    wide = x.float()
    inverse = torch.rsqrt(wide.square().mean(-1) + eps)
    y = (wide * inverse[..., None] * weight).to(x.dtype)
    return y if shift is None or scale is None else torch.addcmul(shift, y, 1 + scale)


def _lies_well(x: Tensor, weight: Tensor) -> bool:
    """Whether the C++ code is there, and can walk over these values."""
    return x.is_contiguous() and x.numel() > 0 and weight.numel() == x.shape[-1] and _library() is not None


def _normed(x: Tensor, weight: Tensor, shift: Tensor | None, scale: Tensor | None, eps: float) -> Tensor:
    given = [tensor for tensor in (x, weight, shift, scale) if tensor is not None]
    if learned(*given):
        return _RMSNorm.apply(x, weight, shift, scale, eps)  # type: ignore[no-any-return]
    return _forward(x, weight, shift, scale, eps)[0]


class _Sizes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("rows", "width", "group", "stride", "threads")]


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, shift: Tensor | None, scale: Tensor | None, eps: float) -> Tensor:
        y, inverse = _forward(x, weight, shift, scale, eps)
        ctx.eps = eps
        ctx.save_for_backward(x, weight, shift, scale, inverse)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, shift, scale, inverse = ctx.saved_tensors
        if torch.is_grad_enabled():  # these gradients are to be differentiated
            return (*differentiable(partial(_by_torch, eps=ctx.eps), (x, weight, shift, scale), gradients[0]), None)
        return (*_backward(gradients[0].contiguous(), x, weight, shift, scale, inverse), None)


def _forward(
    x: Tensor, weight: Tensor, shift: Tensor | None, scale: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """Return the result, and 1 / root mean square of each row."""
    sizes = _sizes(x, scale)
    y, inverse = torch.empty_like(x), x.new_empty(sizes.rows)
    _library().rms_norm_forward(
        ctypes.byref(sizes), x.data_ptr(), weight.data_ptr(), _at(scale), _at(shift), eps, y.data_ptr(), inverse.data_ptr()
    )  # fmt: skip
    return y, inverse


def _backward(
    gradient: Tensor, x: Tensor, weight: Tensor, shift: Tensor | None, scale: Tensor | None, inverse: Tensor
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Return the gradients for x, weight, shift and scale."""
    sizes = _sizes(x, scale)
    to_x, to_weight = torch.empty_like(x), torch.empty_like(weight)
    sums = x.new_empty(-(-sizes.rows // sizes.group), sizes.width)
    to_shift, to_scale = (None if one is None else x.new_empty(one.shape) for one in (shift, scale))
    _library().rms_norm_backward(
        ctypes.byref(sizes), gradient.data_ptr(), x.data_ptr(), weight.data_ptr(), _at(scale), inverse.data_ptr(),
        to_x.data_ptr(), to_weight.data_ptr(), _at(to_scale), _at(to_shift), sums.data_ptr(),
    )  # fmt: skip
    return to_x, to_weight, to_shift, to_scale


def _sizes(x: Tensor, scale: Tensor | None) -> _Sizes:
    width = x.shape[-1]
    group, stride = (ROWS, 0) if scale is None else (x.shape[-2], scale.stride(0))
    return _Sizes(x.numel() // width, width, group, stride, threads_for(x.numel()))


def _at(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


@cache
def _library() -> Any:
    """Return the library built from rms_norm.cpp, or None."""
    library = compiled_library(SOURCE)
    if library is not None:
        pointer = ctypes.c_void_p
        library.rms_norm_forward.argtypes = [*[pointer] * 5, ctypes.c_double, *[pointer] * 2]
        library.rms_norm_backward.argtypes = [pointer] * 11
    return library
