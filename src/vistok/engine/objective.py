"""What a run minimises: stage 1, each family of generators, and each way of making a generator faster."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import nn

from vistok.engine.config import OptimizerConfig
from vistok.engine.distributed import World
from vistok.engine.optim import adamw, decay_groups
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss
from vistok.engine.schedule import make_schedule
from vistok.units import Scale


class Objective(ABC):
    """The networks of a run and the phases that train them; frozen networks are left to each subclass.

    `networks`: all trained networks, by name. `averaged`: those whose EMA weights are kept and exported, the run's main
    network first. A network that names its `spread_units` is recomputed, compiled and sharded as the run's config says.
    """

    networks: dict[str, nn.Module]
    averaged: tuple[str, ...]

    @abstractmethod
    def phases(self, scale: Scale, world: World) -> list[Phase]:
        """Return the phases, each with its own optimizer; called after the networks are spread over processes."""

    @abstractmethod
    def example(self, batch_size: int, device: torch.device) -> MicroBatch:
        """Return a batch of the right shapes, for planning (on the meta device) and timing."""

    @property
    def period(self) -> int:
        """Steps after which the phases' turns repeat; a step's cost is their mean."""
        return 1

    def stages(self, scale: Scale) -> tuple[int, ...]:
        """Return the steps at which the cost of a step changes, in order."""
        return ()

    def parameters(self) -> dict[str, int]:
        """Return the numbers of parameters that a plan states, by part; by default, of the averaged networks."""
        return {name: sum(weight.numel() for weight in self.networks[name].parameters()) for name in self.averaged}


def only_phase(
    name: str, model: nn.Module, config: OptimizerConfig, scale: Scale, loss: Callable[[MicroBatch, int], PhaseLoss]
) -> list[Phase]:
    """Return the phase of an objective that trains one network: all of its weights, clipped by their norm."""
    return [
        Phase(
            name=name,
            modules=[model],
            optimizer=adamw(decay_groups(model, config.weight_decay), config),
            schedule=make_schedule(config, scale),
            loss=loss,
            clip_groups={name: list(model.parameters())},
            clip_norm=config.clip_norm,
        )
    ]
