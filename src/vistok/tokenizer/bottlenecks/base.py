"""The contract for bottlenecks; channel-last throughout."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vistok.tokenizer.noise import Noise

# The scale at which a linear path's vectors of images have a variance of about 1. At the images' own scale they have to grow in
# training, and until they have, codes lag behind them (results/own_images).
UNIT_VARIANCE = 5.0


@dataclass
class BottleneckOutput:
    """The result for a batch.

    latents: what regularizers see (for VQ the vectors that are compared with the codebook, for FSQ the bounded ones).
    decoded: what the decoder receives (for VQ the chosen codes, with the straight-through gradient). stored: what a
    cache keeps: code numbers, or means and standard deviations side by side. losses: named scalars, already weighted,
    to be summed. statistics: named scalars, detached.
    """

    latents: Tensor
    decoded: Tensor
    stored: Tensor
    losses: dict[str, Tensor] = field(default_factory=dict)
    statistics: dict[str, Tensor] = field(default_factory=dict)


class Bottleneck(nn.Module, ABC):
    """Maps encoder outputs of `in_dim` numbers to latents, and latents to the decoder's input of `code_dim` numbers."""

    in_dim: int
    code_dim: int
    # How many times the images' numbers those of a linear path's vectors are at first (networks/patch_shortcut).
    vector_scale: float = 1.0

    @abstractmethod
    def forward(self, z_e: Float[Tensor, "*batch dim"], noise: Noise | None = None) -> BottleneckOutput:
        """Map encoder outputs to latents, in float32 even under autocast; in training, a distribution draws from `noise`."""

    @abstractmethod
    def to_decoder(self, latents: Tensor) -> Float[Tensor, "*batch dim"]:
        """Return the decoder's input for latents in the form that a generator writes: integers, or vectors."""

    def from_stored(self, stored: Tensor) -> Tensor:
        """Return the latents for a cache entry; a distribution is represented by its mean."""
        return stored

    def begin(self, leading: nn.Module) -> None:  # noqa: B027
        """Set up the layer that gives `z_e`, in a network whose latents say something about images from the first step on."""

    def after_step(  # noqa: B027 (most need nothing)
        self, generator_seed: int, step: int, gather: Callable[[Tensor], Tensor] = lambda part: part
    ) -> None:
        """Do what has to follow an optimizer step, such as restarting dead codes.

        `gather` joins the parts from all processes, in the order of the batch.
        """


class Quantizer(Bottleneck):
    """Maps vectors to code numbers; `indices_to_codes` and `codes_to_indices` are exact inverses."""

    codebook_size: int

    @property
    def in_dim(self) -> int:  # type: ignore[override]
        """The same as `code_dim`, since vectors are compared with codes."""
        return self.code_dim

    @abstractmethod
    def indices_to_codes(self, indices: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """Return the code vectors, as the decoder receives them."""

    @abstractmethod
    def codes_to_indices(self, codes: Float[Tensor, "*batch dim"]) -> Int[Tensor, "*batch"]:
        """Return the number of the nearest code."""

    def to_decoder(self, latents: Tensor) -> Float[Tensor, "*batch dim"]:
        """Return the codes with these numbers."""
        return self.indices_to_codes(latents)


def straight_through(latents: Tensor, codes: Tensor) -> Tensor:
    """Return the value of `codes` with the gradient of `latents`; the codes get no gradient."""
    return latents + (codes - latents).detach()


class _ContiguousGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].contiguous()


def contiguous_gradient(x: Tensor) -> Tensor:
    """Return `x` unchanged; its gradient has the same memory layout whatever uses `x`.

    The layout of a sum of gradients depends on its terms, and kernels round differently by layout: without this, a
    regularizer of weight 0 would change the last bits.
    """
    return _ContiguousGradient.apply(x)
