"""A phase: one optimizer's turn in a step. A generator is one phase, a GAN tokenizer two."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vistok.engine.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterator

# Shared by all phases of a step: a later phase can reuse what an earlier one stored in it.
MicroBatch = dict[str, Tensor]


def always(step: int) -> bool:
    """Be active at every step."""
    return True


@dataclass
class Phase:
    """A name, the modules it trains, their optimizer, and its losses.

    `loss` returns terms, which are summed and differentiated, and statistics, which are only logged. Each of
    `clip_groups` is clipped by its own gradient norm. `after_step` runs after the optimizer has stepped. Within
    `unsynced`, gradients are not exchanged between processes.
    """

    name: str
    modules: Sequence[nn.Module]
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    loss: Callable[[MicroBatch, int], "PhaseLoss"]
    clip_groups: dict[str, list[nn.Parameter]]
    clip_norm: float
    active: Callable[[int], bool] = always
    after_step: Callable[[int], None] | None = None
    unsynced: Callable[[], AbstractContextManager[Any]] = nullcontext


@dataclass
class PhaseLoss:
    """Terms whose sum is minimised, and what is only logged.

    `statistics` are numbers, averaged over the batch. `spreads` are vectors (..., dim), of which the variance about the
    whole batch's mean is logged, averaged over dimensions.
    """

    terms: dict[str, Tensor]
    statistics: dict[str, Tensor] = field(default_factory=dict)
    spreads: dict[str, Tensor] = field(default_factory=dict)

    @property
    def total(self) -> Tensor:
        """The sum of the terms."""
        return torch.stack([term.float() for term in self.terms.values()]).sum()


@contextmanager
def only(phase: Phase, phases: Sequence[Phase]) -> "Iterator[None]":
    """Freeze the parameters of all other phases: gradients flow through them but not into them."""
    others = [p for other in phases if other is not phase for m in other.modules for p in m.parameters()]
    trainable = [p for p in others if p.requires_grad]
    for parameter in trainable:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
