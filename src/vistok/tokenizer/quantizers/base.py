"""The contract of every quantizer; channel-last throughout."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass
class QuantizerOutput:
    """What quantizing a batch gives.

    latents: the vectors that are compared with the codebook (unit-norm for VQ, bounded for FSQ); what
    the causal regularizer sees. z_q: the chosen codes, with the straight-through gradient, for the
    decoder. indices: the chosen codes' numbers. losses: named scalars, already weighted, to be added.
    statistics: named scalars, detached.
    """

    latents: Tensor
    z_q: Tensor
    indices: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)
    statistics: dict[str, Tensor] = field(default_factory=dict)


class Quantizer(nn.Module, ABC):
    """Vectors to code numbers; `indices_to_codes` and `codes_to_indices` are exact inverses."""

    codebook_size: int
    code_dim: int

    @abstractmethod
    def forward(self, z_e: Float[Tensor, "*batch dim"]) -> QuantizerOutput:
        """Quantize encoder outputs, in float32 also under autocast."""

    @abstractmethod
    def indices_to_codes(self, indices: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """Return the code vectors, as the decoder gets them."""

    @abstractmethod
    def codes_to_indices(self, codes: Float[Tensor, "*batch dim"]) -> Int[Tensor, "*batch"]:
        """Return the number of the nearest code."""

    def after_step(  # noqa: B027 (most quantizers need nothing)
        self, generator_seed: int, step: int, gather: Callable[[Tensor], Tensor] = lambda part: part
    ) -> None:
        """Do what follows an optimizer step (restart of dead codes).

        `gather` joins the parts of all processes, in the order of the batch.
        """


def straight_through(latents: Tensor, codes: Tensor) -> Tensor:
    """Return the value of `codes` with the gradient of `latents` (and none into the codes)."""
    return latents + (codes - latents).detach()


def in_float32(like: Tensor) -> AbstractContextManager[None]:
    """Return a context without autocast: distances between codes need all of float32's digits."""
    if like.device.type == "meta":  # which knows no autocast
        return nullcontext()
    return torch.autocast(like.device.type, enabled=False)


class _ContiguousGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].contiguous()


def contiguous_gradient(x: Tensor) -> Tensor:
    """Return `x` unchanged; its gradient is laid out the same whichever consumers it has.

    The layout of a sum of gradients depends on who contributes, and kernels round by layout: without
    this a regularizer of weight 0 would change the last bits.
    """
    return _ContiguousGradient.apply(x)
