"""A small second implementation of every contract, as a user would add one: new files, and a line in a table each."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from vistok.config import Part, later
from vistok.engine.distributed import ALONE, World
from vistok.engine.objective import Objective
from vistok.engine.optim import adamw, decay_groups
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss
from vistok.engine.schedule import make_schedule
from vistok.generator import families
from vistok.generator.config import GeneratorConfig, SamplingConfig
from vistok.generator.interface import Generator, Sampler
from vistok.nn.mixers import config as mixers
from vistok.nn.mixers.base import Mixer
from vistok.nn.mixers.config import MixerConfig
from vistok.rng import normal_grid, seeded_init
from vistok.scoring import scorers
from vistok.scoring.scorer import Finished, Scored, Scorer
from vistok.space import Layout, Space, Vectors
from vistok.tokenizer.bottlenecks import config as bottlenecks
from vistok.tokenizer.bottlenecks.base import Bottleneck, BottleneckOutput
from vistok.tokenizer.bottlenecks.config import BottleneckConfig
from vistok.tokenizer.noise import Noise
from vistok.tokenizer.regularizers import config as regularizers
from vistok.tokenizer.regularizers.base import Regularizer, Seen, Setting
from vistok.tokenizer.regularizers.config import RegularizerConfig
from vistok.units import Scale


class GaussianConfig(BottleneckConfig):
    kind: Literal["toy_gaussian"] = "toy_gaussian"
    dim: int = 4

    def space(self, layout: Layout) -> Space:
        return Vectors(layout=layout, dim=self.dim)


class Gaussian(Bottleneck):
    def __init__(self, config: GaussianConfig) -> None:
        super().__init__()
        self.in_dim, self.code_dim = 2 * config.dim, config.dim

    def forward(self, z_e: Tensor, noise: Noise | None = None) -> BottleneckOutput:
        mean, log_variance = z_e.float().chunk(2, dim=-1)
        deviation = (log_variance.clamp(-8, 4) / 2).exp()
        drawn = mean + deviation * noise.normal("toy", mean.shape[1:]) if noise is not None else mean
        kl = (mean.square() + deviation.square() - 1 - log_variance.clamp(-8, 4)).mean() / 2
        stored = torch.cat([mean, deviation], dim=-1).detach()
        return BottleneckOutput(mean, drawn, stored, {"kl_loss": 1e-3 * kl})

    def to_decoder(self, latents: Tensor) -> Tensor:
        return latents

    def from_stored(self, stored: Tensor) -> Tensor:
        return stored.chunk(2, dim=-1)[0]


class ShrinkConfig(RegularizerConfig):
    kind: Literal["toy_shrink"] = "toy_shrink"
    weight: float = 0.1


class Shrink(Regularizer):
    name = "toy_shrink"

    def __init__(self, config: ShrinkConfig, setting: Setting) -> None:
        super().__init__()
        self.config = config

    def forward(self, seen: Seen, step: int) -> PhaseLoss:
        return PhaseLoss({"shrink_loss": self.config.weight * seen.bottleneck.latents.square().mean()})


class NormalConfig(GeneratorConfig):
    kind: Literal["toy_normal"] = "toy_normal"
    start: float = 0.0


class NormalSampling(SamplingConfig):
    kind: Literal["toy_normal"] = "toy_normal"
    spread: float = later(1.0)


class NormalGenerator(Generator):
    """A normal distribution around a mean for each class; no likelihood is offered."""

    def __init__(self, config: NormalConfig, space: Space, num_classes: int) -> None:
        super().__init__()
        self.config, self.space, self.num_classes = config, space, num_classes
        self.means = nn.Linear(num_classes, math.prod(space.shape))
        nn.init.constant_(self.means.weight, config.start)

    def sampler(self, sampling: SamplingConfig) -> Sampler:
        def draw(labels: Tensor, image_ids: Tensor) -> Tensor:
            noise = normal_grid(sampling.seed, image_ids, 0, self.space.shape)
            return self.mean_of(labels).detach() + sampling.spread * noise

        return draw

    def mean_of(self, labels: Tensor) -> Tensor:
        classes = nn.functional.one_hot(labels, self.num_classes).float()
        return self.means(classes).unflatten(-1, self.space.shape)

    def calls(self, sampling: SamplingConfig) -> int:
        return 1

    def sampling_flops(self, sampling: SamplingConfig) -> float:
        return 0.0

    def sampling_bytes(self, sampling: SamplingConfig) -> int:
        return 4 * self.means.out_features


class MeanError(Objective):
    averaged = ("generator",)

    def __init__(self, run, space: Space, num_classes: int, device: torch.device, world: World = ALONE) -> None:
        self.run = run
        with seeded_init(run.seed, "init", "generator"), device:
            self.model = NormalGenerator(run.generator, space, num_classes)
        self.networks = {"generator": self.model}

    def phases(self, scale: Scale, world: World = ALONE) -> list[Phase]:
        optimizer = self.run.optimizer
        return [
            Phase(
                name="generator",
                modules=[self.model],
                optimizer=adamw(decay_groups(self.model, 0.0), optimizer),
                schedule=make_schedule(optimizer, scale),
                loss=lambda micro, step: PhaseLoss(
                    {"error": (self.model.mean_of(micro["labels"]) - micro["latents"]).square().mean()}
                ),
                clip_groups={"generator": list(self.model.parameters())},
                clip_norm=optimizer.clip_norm,
            )
        ]

    def example(self, batch_size: int, device: torch.device) -> MicroBatch:
        return {
            "latents": torch.zeros(batch_size, *self.model.space.shape, device=device),
            "labels": torch.zeros(batch_size, dtype=torch.int64, device=device),
        }


class AverageConfig(MixerConfig):
    kind: Literal["toy_average"] = "toy_average"


class Average(Mixer):
    """The mean of all positions so far."""

    def __init__(self, config: AverageConfig, width: int, num_heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        counts = torch.arange(1, x.shape[1] + 1, device=x.device)[:, None]
        return self.out(x.cumsum(dim=1) / counts)

    def new_state(self, rows: int, positions: int) -> list:
        return [0, 0]

    def step(self, x: Tensor, state: list, cos: Tensor, sin: Tensor) -> Tensor:
        state[0], state[1] = state[0] + x, state[1] + 1
        return self.out(state[0] / state[1])


class Brightness(Scorer):
    of = "generator"

    def score(self, run: Finished) -> Scored:
        images = run.tokenizer.decode(run.generator.sample(torch.arange(8) % run.generator.num_classes))
        return Scored({"toy_brightness": float(images.mean())}, {"toy": {"images": 8}})


@contextmanager
def registered() -> Iterator[None]:
    """The lines that a user would add to the house's tables."""
    tables = [
        (bottlenecks.BOTTLENECKS, "toy_gaussian", Part(GaussianConfig, "toy_parts:Gaussian")),
        (regularizers.REGULARIZERS, "toy_shrink", Part(ShrinkConfig, "toy_parts:Shrink")),
        (mixers.MIXERS, "toy_average", Part(AverageConfig, "toy_parts:Average")),
        (families.FAMILIES, "toy_normal", families.Family(
            NormalConfig, "toy_parts:NormalGenerator", objective="toy_parts:MeanError", sampling=NormalSampling
        )),
    ]  # fmt: skip
    for table, kind, part in tables:
        table[kind] = part
    scorers.SCORERS.append(brightness := Brightness())
    try:
        yield
    finally:
        scorers.SCORERS.remove(brightness)
        for table, kind, _ in tables:
            del table[kind]
