"""What a run minimises: stage 1, each family of generators, and each way of making a generator faster."""

from abc import ABC, abstractmethod

import torch
from torch import nn

from vistok.engine.distributed import World
from vistok.engine.phase import MicroBatch, Phase
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

    def stages(self, scale: Scale) -> tuple[int, ...]:
        """Return the steps at which the cost of a step changes, in order."""
        return ()

    def parts(self) -> dict[str, nn.Module]:
        """Return the networks whose parameters a plan counts, by name; by default, the averaged ones."""
        return {name: self.networks[name] for name in self.averaged}
