"""What a flow generator minimises: the error of the predicted velocity (or noise, or data), and of its direction."""

import torch
from torch import Tensor

from vistok.engine.distributed import ALONE, World
from vistok.engine.objective import Objective
from vistok.engine.optim import adamw, decay_groups
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss
from vistok.engine.schedule import make_schedule
from vistok.generator.flow.config import FlowConfig
from vistok.generator.flow.generator import FlowGenerator
from vistok.generator.training import GeneratorTraining
from vistok.rng import seeded_init
from vistok.space import Space
from vistok.units import Scale


class Matching(Objective):
    """Flow matching along a path, at random times."""

    averaged = ("generator",)

    def __init__(
        self, run: GeneratorTraining, space: Space, num_classes: int, device: torch.device, world: World = ALONE
    ) -> None:
        assert isinstance(run.generator, FlowConfig)
        self.optimizer, self.config = run.optimizer, run.generator
        with seeded_init(run.seed, "init", "generator"), device:
            self.model = FlowGenerator(run.generator, space, num_classes)
        self.networks = {"generator": self.model}

    def phases(self, scale: Scale, world: World = ALONE) -> list[Phase]:
        """Return the only phase."""
        return [
            Phase(
                name="generator",
                modules=[self.model],
                optimizer=adamw(decay_groups(self.model, self.optimizer.weight_decay), self.optimizer),
                schedule=make_schedule(self.optimizer, scale),
                loss=self._loss,
                clip_groups={"generator": list(self.model.parameters())},
                clip_norm=self.optimizer.clip_norm,
            )
        ]

    def _loss(self, micro: MicroBatch, step: int) -> PhaseLoss:
        data = self.model.normalised(micro["latents"])
        noise = torch.randn_like(data)
        times = self._times(len(data), data)
        error, direction = self.model(data, noise, times, micro["labels"])
        terms = {"matching_loss": error.mean()}
        if self.config.direction_weight:
            terms["direction_loss"] = self.config.direction_weight * direction.mean()
        return PhaseLoss(terms)

    def _times(self, count: int, like: Tensor) -> Tensor:
        """Return times in (0, 1)."""
        if self.config.times == "uniform":
            return torch.rand(count, device=like.device)
        return torch.sigmoid(torch.randn(count, device=like.device))

    def example(self, batch_size: int, device: torch.device) -> MicroBatch:
        """Return vectors and labels of the right shapes, all zeros."""
        return {
            "latents": torch.zeros(batch_size, *self.model.space.shape, device=device),
            "labels": torch.zeros(batch_size, dtype=torch.int64, device=device),
        }
