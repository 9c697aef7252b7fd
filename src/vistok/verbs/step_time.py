"""How fast this machine trains, measured on a few steps."""

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

from vistok.engine.device import autocast, setup_device
from vistok.engine.distributed import ALONE
from vistok.engine.objective import Objective
from vistok.engine.phase import only
from vistok.runs.config import GeneratorRun, RunConfig, TokenizerRun
from vistok.runs.latent_facts import LatentFacts
from vistok.runs.plan import Plan
from vistok.space import Space
from vistok.units import Scale
from vistok.verbs import train_generator, train_tokenizer

STEPS, WARM = 5, 2
# Seconds after which no further step is begun: on a slow or busy machine, two steps say enough.
PATIENCE = 6.0
# The largest step that is tried on a CPU, in FLOPs. Of larger batches a part is tried.
MOST_FLOPS = 5e10
# Seconds over which a rate is measured: the median of a few small steps would be that of one moment.
LONG = 3.0
# Of logging, loading and validation, on top of the steps (results/own_images).
OVERHEAD = 1.15
LATE = 10**9  # a step by which everything is switched on


def training_rate(config: GeneratorRun, space: Space, num_classes: int = 10) -> float:
    """Return this generator's training FLOPs per second, from the median of the steps of some seconds."""
    flops = _generator_plan(config, space, num_classes).flops_per_step[0][1]
    return flops / generator_step_seconds(config, space, num_classes, LONG)


def generator_step_seconds(config: GeneratorRun, space: Space, num_classes: int, long: float = 0.0) -> float:
    """Return the seconds per training step of this generator, the median of a few, or of those of `long` seconds."""
    facts = LatentFacts(space, num_classes)
    seconds = step_seconds(
        config, _generator_plan(config, space, num_classes), partial(train_generator.build_objective, config, facts),
        at_least=1, long=long,
    )  # fmt: skip
    assert seconds is not None
    return seconds


def tokenizer_step_seconds(config: TokenizerRun) -> float:
    """Return the seconds per training step of this tokenizer with all losses on, the median of a few."""
    objective = partial(train_tokenizer.build_objective, config)
    seconds = step_seconds(config, train_tokenizer.plan(config, 1), objective, at_least=1)
    assert seconds is not None
    return seconds


def step_seconds(
    config: RunConfig, plan: Plan, objective: Callable[[torch.device], Objective], at_least: int = 0, long: float = 0.0
) -> float | None:
    """Return the seconds per training step with everything on, measured on as many of its images as can be tried quickly.

    None if fewer than one image can be, and `at_least` is none.
    """
    device = setup_device(config.execution)
    flops = plan.flops_per_step[-1][1]
    batch = config.batch_size
    if device.type == "cpu":
        batch = max(at_least, min(batch, int(MOST_FLOPS / max(flops / batch, 1))))
    if batch < 1:
        return None
    batch = max(batch, min(2, config.batch_size))  # batch norm needs two
    scale = Scale(config.batch_size, 1, 1, plan.flops_per_step, 1000)
    return _step_seconds(objective(device), config, scale, device, batch, long) * config.batch_size / batch


def _generator_plan(config: GeneratorRun, space: Space, num_classes: int) -> Plan:
    return train_generator.plan(config, LatentFacts(space, num_classes), 1)


def _step_seconds(
    objective: Objective, config: RunConfig, scale: Scale, device: torch.device, batch_size: int, long: float
) -> float:
    """Return the median of five steps after two for warming up, or of those of `long` seconds; of fewer if they are slow."""
    phases = objective.phases(scale, ALONE)
    micro = objective.example(batch_size, device)
    seconds: list[float] = []
    while (len(seconds) < STEPS + WARM or sum(seconds[WARM:]) < long) and (len(seconds) < 2 or sum(seconds) < PATIENCE):
        started, shared = time.perf_counter(), dict(micro)
        for phase in phases:
            with only(phase, phases):
                with autocast(device, config.precision):
                    total = phase.loss(shared, LATE).total
                total.backward()
        for phase in phases:
            phase.optimizer.step()
            phase.optimizer.zero_grad(set_to_none=True)
            if phase.after_step is not None:
                phase.after_step(LATE)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[min(WARM, len(seconds) - 1) :])
