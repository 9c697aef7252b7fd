"""The contract of every bottleneck; channel-last throughout."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


@dataclass
class BottleneckOutput:
    """What a batch gives.

    latents: what regularizers see (for VQ the vectors that are compared with the codebook, for FSQ the bounded ones).
    decoded: what the decoder gets (for VQ the chosen codes, with the straight-through gradient). stored: what a cache keeps:
    code numbers, or means and standard deviations side by side. losses: named scalars, already weighted, to be added.
    statistics: named scalars, detached.
    """

    latents: Tensor
    decoded: Tensor
    stored: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)
    statistics: dict[str, Tensor] = field(default_factory=dict)


class Bottleneck(nn.Module, ABC):
    """Encoder outputs of `in_dim` numbers to latents, and latents to the `code_dim` numbers that the decoder gets."""

    in_dim: int
    code_dim: int

    @abstractmethod
    def forward(self, z_e: Float[Tensor, "*batch dim"]) -> BottleneckOutput:
        """Squeeze encoder outputs, in float32 also under autocast."""

    @abstractmethod
    def to_decoder(self, latents: Tensor) -> Float[Tensor, "*batch dim"]:
        """Return what the decoder gets for latents as a generator writes them: integers, or vectors."""

    def from_stored(self, stored: Tensor) -> Tensor:
        """Return the latents that a cache's entry stands for; of a distribution its mean."""
        return stored

    def after_step(  # noqa: B027 (most need nothing)
        self, generator_seed: int, step: int, gather: Callable[[Tensor], Tensor] = lambda part: part
    ) -> None:
        """Do what follows an optimizer step (restart of dead codes).

        `gather` joins the parts of all processes, in the order of the batch.
        """


class Quantizer(Bottleneck):
    """Vectors to code numbers; `indices_to_codes` and `codes_to_indices` are exact inverses."""

    codebook_size: int

    @property
    def in_dim(self) -> int:  # type: ignore[override]
        """A vector is compared with codes of its own length."""
        return self.code_dim

    @abstractmethod
    def indices_to_codes(self, indices: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """Return the code vectors, as the decoder gets them."""

    @abstractmethod
    def codes_to_indices(self, codes: Float[Tensor, "*batch dim"]) -> Int[Tensor, "*batch"]:
        """Return the number of the nearest code."""

    def to_decoder(self, latents: Tensor) -> Float[Tensor, "*batch dim"]:
        """Return the codes of these numbers."""
        return self.indices_to_codes(latents)


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
