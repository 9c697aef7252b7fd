"""What a run minimises: stage 1, each family of generators, each way of making a generator faster."""

from abc import ABC, abstractmethod

import torch
from torch import nn

from vistok.engine.distributed import World
from vistok.engine.phase import MicroBatch, Phase
from vistok.units import Scale


class Objective(ABC):
    """The networks of a training and the phases that train them; frozen networks are its own affair.

    `networks`: all that is trained, by name. `averaged`: those whose averages are kept and exported, what the run is of
    first. A network that names its `spread_units` is recomputed, compiled and sharded as the run's config says.
    """

    networks: dict[str, nn.Module]
    averaged: tuple[str, ...]

    @abstractmethod
    def phases(self, scale: Scale, world: World) -> list[Phase]:
        """Return the phases, each with an optimizer of its own, made when networks are spread over processes."""

    @abstractmethod
    def example(self, batch_size: int, device: torch.device) -> MicroBatch:
        """Return a batch of the right shapes, for plans (on the meta device) and for timing."""

    def stages(self, scale: Scale) -> tuple[int, ...]:
        """Return the steps from which on a step costs something else, in order."""
        return ()

    def parts(self) -> dict[str, nn.Module]:
        """Return the networks whose parameters a plan counts, by name; default: those that are averaged."""
        return {name: self.networks[name] for name in self.averaged}
