"""How fast this machine trains, measured on a few steps."""

import statistics
import time
from collections.abc import Callable

import torch

from vistok.engine.device import setup_device
from vistok.engine.distributed import ALONE
from vistok.engine.objective import Objective
from vistok.engine.phase import only
from vistok.runs.config import GeneratorRun, RunConfig, TokenizerRun
from vistok.runs.latent_facts import LatentFacts
from vistok.space import Space
from vistok.units import Scale
from vistok.verbs import train_generator, train_tokenizer

STEPS = 5
# Seconds over which a rate is measured: the median of a few small steps would be that of one moment.
LONG = 3.0
LATE = 10**9  # a step by which everything is switched on


def training_rate(config: GeneratorRun, space: Space, num_classes: int = 10) -> float:
    """Return this generator's training FLOPs per second: the median of the steps of some seconds, after two for warming up."""
    facts, device = LatentFacts(space, num_classes), setup_device(config.execution)
    flops = train_generator.plan(config, facts, 1).flops_per_step[0][1]
    objective = train_generator.build_objective(config, facts, device)
    return flops / _step_seconds(objective, config, device, at_least=LONG)


def generator_step_seconds(config: GeneratorRun, space: Space, num_classes: int) -> float:
    """Return the seconds per training step of this generator: the median of five, after two for warming up."""
    device = setup_device(config.execution)
    return _step_seconds(
        train_generator.build_objective(config, LatentFacts(space, num_classes), device), config, device
    )


def step_seconds(config: RunConfig, objective: Callable[[torch.device], Objective], batch_size: int) -> float:
    """Return the seconds per training step on this many images: the median of five, after two for warming up."""
    device = setup_device(config.execution)
    return _step_seconds(objective(device), config, device, batch_size)


def tokenizer_step_seconds(config: TokenizerRun) -> float:
    """Return the seconds per training step of this tokenizer with all losses on: the median of five, after two."""
    device = setup_device(config.execution)
    return _step_seconds(train_tokenizer.build_objective(config, device), config, device)


def _step_seconds(
    objective: Objective, config: RunConfig, device: torch.device, batch_size: int | None = None, at_least: float = 0.0
) -> float:
    """Return the median of five steps after two for warming up, or of more until they took `at_least` so many seconds."""
    phases = objective.phases(Scale(config.batch_size, 1, 1, (), 1000), ALONE)
    micro = objective.example(batch_size or config.batch_size, device)
    seconds: list[float] = []
    while len(seconds) < STEPS + 2 or sum(seconds[2:]) < at_least:
        started, shared = time.perf_counter(), dict(micro)
        for phase in phases:
            with only(phase, phases):
                phase.loss(shared, LATE).total.backward()
        for phase in phases:
            phase.optimizer.step()
            phase.optimizer.zero_grad(set_to_none=True)
            if phase.after_step is not None:
                phase.after_step(LATE)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[2:])
