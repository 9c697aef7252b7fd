"""Exponential moving average of weights."""

import copy

import torch
from torch import Tensor, nn


class EMA:
    """The average of a module's weights; `module` holds it, ready for evaluation.

    The decay grows as (1 + t) / (10 + t) up to its full value, so that the initial weights are soon forgotten.
    """

    def __init__(self, source: nn.Module, decay: float) -> None:
        self.source = source
        self.decay = decay
        self.module = copy.deepcopy(source).eval().requires_grad_(False)
        self._placing = [
            (average, module)
            for average, module in zip(self.module.modules(), source.modules(), strict=True)
            if hasattr(module, "placed_anew")
        ]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Include the weights after step number `step`; buffers are copied.

        So are the parameters that a module lists in `placed_anew`: this step moved them, and averaging them with their
        old values would be meaningless.
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        averages, weights = ([_own(p) for p in module.parameters()] for module in (self.module, self.source))
        torch._foreach_lerp_(averages, weights, 1 - decay)
        for average, buffer in zip(self.module.buffers(), self.source.buffers(), strict=True):
            average.copy_(buffer)
        for averaged, source in self._placing:
            for name in source.placed_anew:  # type: ignore[union-attr]
                getattr(averaged, name).copy_(getattr(source, name))


def _own(parameter: Tensor) -> Tensor:
    """Return this process's part of a sharded parameter, or the parameter itself."""
    return parameter.to_local() if hasattr(parameter, "to_local") else parameter
