"""silu(gate) * up, the middle of a gated layer, in one pass of C++ each way where possible (gated.cpp).

That is for float32 and bfloat16 on a CPU, with a compiler. Otherwise, and when gradients of gradients are taken, these are
torch's operators; results agree within rounding.
"""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vistok.nn.native_library import compiled_library
from vistok.nn.native_operator import DEFINES, differentiable, learned, takes_either, threads_for

SOURCE = Path(__file__).with_name("gated.cpp")


def gated(gate: Tensor, up: Tensor) -> Tensor:
    """Return silu(gate) * up, of equal shapes."""
    if not (_fits(gate) and takes_either(gate, up) and up.is_contiguous() and up.shape == gate.shape):
        return _by_torch(gate, up)
    return _Gated.apply(gate, up) if learned(gate, up) else _forward(gate, up)  # type: ignore[no-any-return]


def gated_halves(both: Tensor) -> Tensor:
    """Map (..., 2 width) to (..., width): silu(gate) * up of what one product made, gates first."""
    if not _fits(both):
        return _halves_by_torch(both)
    return _GatedHalves.apply(both) if learned(both) else _forward(*both.chunk(2, dim=-1))  # type: ignore[no-any-return]


def _by_torch(gate: Tensor, up: Tensor) -> Tensor:
    return F.silu(gate) * up


def _halves_by_torch(both: Tensor) -> Tensor:
    return _by_torch(*both.chunk(2, dim=-1))


def _fits(x: Tensor) -> bool:
    return takes_either(x) and x.is_contiguous() and x.numel() > 0 and _library(x.dtype) is not None


class _Sizes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("rows", "width", "stride", "threads")]


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return _forward(gate, up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gate, up = ctx.saved_tensors
        if torch.is_grad_enabled():  # these gradients are to be differentiated
            return tuple(differentiable(_by_torch, (gate, up), gradients[0]))
        found = torch.empty_like(gate), torch.empty_like(up)
        _backward(gradients[0], gate, up, *found)
        return found


class _GatedHalves(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, both: Tensor) -> Tensor:
        ctx.save_for_backward(both)
        return _forward(*both.chunk(2, dim=-1))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor | None:
        (both,) = ctx.saved_tensors
        if torch.is_grad_enabled():
            return differentiable(_halves_by_torch, (both,), gradients[0])[0]
        found = torch.empty_like(both)
        _backward(gradients[0], *both.chunk(2, dim=-1), *found.chunk(2, dim=-1))
        return found


def _forward(gate: Tensor, up: Tensor) -> Tensor:
    y = gate.new_empty(gate.shape)
    _library(gate.dtype).gated_forward(ctypes.byref(_sizes(gate)), gate.data_ptr(), up.data_ptr(), y.data_ptr())
    return y


def _backward(gradient: Tensor, gate: Tensor, up: Tensor, to_gate: Tensor, to_up: Tensor) -> None:
    """Write the gradients, which lie as gate and up do."""
    tensors = gradient.contiguous(), gate, up, to_gate, to_up  # held, or a copy's memory would be gone
    _library(gate.dtype).gated_backward(ctypes.byref(_sizes(gate)), *(x.data_ptr() for x in tensors))


def _sizes(gate: Tensor) -> _Sizes:
    width = gate.shape[-1]
    stride = gate.stride(-2) if gate.dim() > 1 else width
    return _Sizes(gate.numel() // width, width, stride, threads_for(2 * gate.numel()))


@cache
def _library(dtype: torch.dtype) -> Any:
    """Return the library built from gated.cpp for numbers of a type, or None."""
    library = compiled_library(SOURCE, DEFINES[dtype])
    if library is not None:
        library.gated_forward.argtypes = [ctypes.c_void_p] * 4
        library.gated_backward.argtypes = [ctypes.c_void_p] * 6
    return library
