"""Exponential moving average of weights."""

import copy

import torch
from torch import Tensor, nn


class EMA:
    """Average of a module; `module` holds it, ready for evaluation.

    The decay grows as (1 + t) / (10 + t) up to its full value, so that the start is soon forgotten.
    """

    def __init__(self, source: nn.Module, decay: float) -> None:
        self.source = source
        self.decay = decay
        self.module = copy.deepcopy(source).eval().requires_grad_(False)
        self._placing = [
            (own, other)
            for own, other in zip(self.module.modules(), source.modules(), strict=True)
            if hasattr(other, "placed_anew")
        ]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step number `step`; buffers are copied.

        So are the parameters that a module names in `placed_anew`, which this step has put elsewhere: their average with
        where they were before means nothing.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, weights = ([_own(p) for p in module.parameters()] for module in (self.module, self.source))
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for average, buffer in zip(self.module.buffers(), self.source.buffers(), strict=True):
            average.copy_(buffer)
        for own, other in self._placing:
            for name in other.placed_anew:  # type: ignore[union-attr]
                getattr(own, name).copy_(getattr(other, name))


def _own(parameter: Tensor) -> Tensor:
    """Return this process's part of a sharded parameter, or the parameter."""
    return parameter.to_local() if hasattr(parameter, "to_local") else parameter
