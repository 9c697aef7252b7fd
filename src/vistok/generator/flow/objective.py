"""What a flow generator minimises: the error of the predicted velocity (or noise, or data), and of its direction."""

from dataclasses import replace

import torch
from torch import Tensor

from vistok.engine.distributed import ALONE, World
from vistok.engine.objective import Objective, only_phase
from vistok.engine.optim import adamw, decay_groups
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss
from vistok.generator.flow.config import FlowConfig
from vistok.generator.flow.generator import FlowGenerator
from vistok.generator.flow.representation import Projector, gap
from vistok.generator.training import GeneratorTraining
from vistok.rng import derive_seed, normal_grid, seeded_init, uniform_grid
from vistok.space import Space
from vistok.units import Scale


class Matching(Objective):
    """Flow matching along a path, at random times."""

    averaged = ("generator",)

    def __init__(
        self, run: GeneratorTraining, space: Space, num_classes: int, device: torch.device, world: World = ALONE,
        feature_dim: int = 0,
    ) -> None:  # fmt: skip
        """`feature_dim`: numbers of the frozen features that an inner layer is aligned with, if one is."""
        assert isinstance(run.generator, FlowConfig)
        self.optimizer, self.config = run.optimizer, run.generator
        self.seed = derive_seed(run.seed, "flow")
        with seeded_init(run.seed, "init", "generator"), device:
            self.model = FlowGenerator(run.generator, space, num_classes)
        self.networks = {"generator": self.model}
        self.projector, self.feature_dim, wanted = None, feature_dim, run.generator.representation
        if wanted is not None:
            with seeded_init(run.seed, "init", "projector"), device:
                self.projector = Projector(wanted, run.generator.width, feature_dim)
            self.networks["projector"] = self.projector

    def phases(self, scale: Scale, world: World = ALONE) -> list[Phase]:
        """Return the only phase. The projector's gradient is clipped by itself, so that it cannot change the generator's step."""
        (phase,) = only_phase("generator", self.model, self.optimizer, scale, self._loss)
        if self.projector is None:
            return [phase]
        groups = [
            group
            for network in (self.model, self.projector)
            for group in decay_groups(network, self.optimizer.weight_decay)
        ]
        clip = {**phase.clip_groups, "projector": list(self.projector.parameters())}
        optimizer = adamw(groups, self.optimizer)
        return [replace(phase, modules=[self.model, self.projector], optimizer=optimizer, clip_groups=clip)]

    def _loss(self, micro: MicroBatch, step: int) -> PhaseLoss:
        data, positions = self.model.normalised(micro["latents"]), micro["positions"]
        # An image's noise and time are its own, in whatever micro-batch and on whatever process it is.
        noise = normal_grid(self.seed, positions, 0, self.model.space.shape)
        times = self._times(positions)
        wanted = self.config.representation
        error, direction, inner = self.model(data, noise, times, micro["labels"], wanted.layer if wanted else 0)
        terms = {"matching_loss": error.mean()}
        if self.config.direction_weight:
            terms["direction_loss"] = self.config.direction_weight * direction.mean()
        if wanted is not None and self.projector is not None:
            terms["representation_loss"] = wanted.weight * gap(self.projector(inner), micro["features"])
        return PhaseLoss(terms)

    def _times(self, positions: Tensor) -> Tensor:
        """Return times in [0, 1)."""
        if self.config.times == "uniform":
            drawn = uniform_grid(self.seed, positions, 1, 1, "time")[:, 0]
        else:
            drawn = torch.sigmoid(normal_grid(self.seed, positions, 1, ()))
        return self.model.process.trained_at(drawn)

    def example(self, batch_size: int, device: torch.device) -> MicroBatch:
        """Return vectors and labels of the right shapes, all zeros."""
        batch = {
            "latents": torch.zeros(batch_size, *self.model.space.shape, device=device),
            "labels": torch.zeros(batch_size, dtype=torch.int64, device=device),
            "positions": torch.zeros(batch_size, dtype=torch.int64, device=device),
        }
        if self.projector is not None:
            patches = self.config.positions(self.model.space.layout).positions
            batch["features"] = torch.zeros(batch_size, patches, self.feature_dim, device=device)
        return batch
