"""Group norm and SiLU, in one pass of C++ where possible (norm_silu.cpp).

That is for float32 and bfloat16 images on a CPU, with a compiler; parameters are float32. Otherwise, and when gradients
of gradients are taken, these are torch's two operators; results agree within rounding.
"""

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.nn.native_library import compiled_library
from vistok.nn.native_operator import DEFINES, differentiable, learned, takes, takes_either, threads_for

SOURCE = Path(__file__).with_name("norm_silu.cpp")
# Pixels that one task handles: an image of 28x28 is one, and a large one is spread over the threads.
CHUNK = 1024
MOST_CHANNELS = 4096


class NormSiLU(nn.GroupNorm):
    """silu(group_norm(x)), with the parameters of nn.GroupNorm."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, ...) to the same shape: normalise each group of channels of each image, apply SiLU."""
        groups, weight, bias, eps = self.num_groups, self.weight, self.bias, self.eps
        if not _fits(x, groups, weight, bias):
            return _by_torch(groups, eps)(x, weight, bias)
        if learned(x, weight, bias):
            return _NormSiLU.apply(x, groups, weight, bias, eps)  # type: ignore[no-any-return]
        return _forward(x, groups, weight, bias, eps)[0]


def _by_torch(groups: int, eps: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return the same by torch's operators, as a function of x, weight and bias."""
    return lambda x, weight, bias: F.silu(F.group_norm(x, groups, weight, bias, eps))


class _Sizes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("images", "channels", "pixels", "groups", "threads")]


class _NormSiLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        y, means, scales = _forward(x, groups, weight, bias, eps)
        ctx.groups, ctx.eps = groups, eps
        ctx.save_for_backward(x, weight, bias, means, scales)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, means, scales = ctx.saved_tensors
        if torch.is_grad_enabled():  # these gradients are to be differentiated
            to_x, to_weight, to_bias = differentiable(_by_torch(ctx.groups, ctx.eps), (x, weight, bias), gradients[0])
        else:
            to_x, to_weight, to_bias = _backward(gradients[0], x, ctx.groups, weight, bias, means, scales)
        return to_x, None, to_weight, to_bias, None


def _forward(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the result, and each image's and group's mean and 1 / standard deviation."""
    sizes, last = _sizes(x, groups), not x.is_contiguous()
    y, means = torch.empty_like(x), weight.new_empty(sizes.images, groups)
    scales, sums = torch.empty_like(means), _sums(sizes)
    _library(x.dtype).norm_silu_forward(
        ctypes.byref(sizes), last, x.data_ptr(), weight.data_ptr(), bias.data_ptr(), eps,
        y.data_ptr(), means.data_ptr(), scales.data_ptr(), sums[0].data_ptr(), sums[1].data_ptr(),
    )  # fmt: skip
    return y, means, scales


def _backward(
    gradient: Tensor, x: Tensor, groups: int, weight: Tensor, bias: Tensor, means: Tensor, scales: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients for x, weight and bias."""
    sizes, last = _sizes(x, groups), not x.is_contiguous()
    gradient = gradient.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
    to_x, to_weight, to_bias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
    sums = _sums(sizes)
    _library(x.dtype).norm_silu_backward(
        ctypes.byref(sizes), last, gradient.data_ptr(), x.data_ptr(), weight.data_ptr(), bias.data_ptr(),
        means.data_ptr(), scales.data_ptr(), to_x.data_ptr(), to_weight.data_ptr(), to_bias.data_ptr(),
        sums[0].data_ptr(), sums[1].data_ptr(),
    )  # fmt: skip
    return to_x, to_weight, to_bias


def _sizes(x: Tensor, groups: int) -> _Sizes:
    images, channels, height, width = x.shape
    return _Sizes(images, channels, height * width, groups, threads_for(x.numel()))


def _sums(sizes: _Sizes) -> Tensor:
    """Return room for two sums of each task and channel."""
    return torch.empty(2, sizes.images * -(-sizes.pixels // CHUNK) * sizes.channels, dtype=torch.float64)


def _fits(x: Tensor, groups: int, weight: Tensor, bias: Tensor) -> bool:
    """Whether the C++ code can take these tensors, and nobody watches torch's operators."""
    return (
        takes_either(x)
        and takes(weight, bias)
        and x.dim() == 4
        and x.numel() > groups  # torch refuses to normalise single values
        and weight.numel() == x.shape[1] <= MOST_CHANNELS
        and weight.is_contiguous()
        and bias.is_contiguous()
        and (x.is_contiguous(memory_format=torch.channels_last) or x.is_contiguous())
        and _library(x.dtype) is not None
    )


@cache
def _library(dtype: torch.dtype) -> Any:
    """Return the library built from norm_silu.cpp for images of a type, or None."""
    library = compiled_library(SOURCE, (f"-DCHUNK={CHUNK}", *DEFINES[dtype]))
    if library is not None:
        pointer = ctypes.c_void_p
        common: list[Any] = [pointer, ctypes.c_int64]
        library.norm_silu_forward.argtypes = [*common, *[pointer] * 3, ctypes.c_double, *[pointer] * 5]
        library.norm_silu_backward.argtypes = [*common, *[pointer] * 11]
    return library
