"""How fast this machine trains: a few steps, measured now."""

import statistics
import time
from collections.abc import Sequence

import torch

from vistok.engine.device import setup_device
from vistok.engine.phase import MicroBatch, Phase, only
from vistok.runs.config import GeneratorRun, TokenizerRun
from vistok.units import Scale
from vistok.verbs import train_generator
from vistok.verbs.stage1 import build_networks, build_phases

STEPS = 5
LATE = 10**9  # a step at which everything is on


def training_rate(config: GeneratorRun, grid: tuple[int, int], codebook_size: int, num_classes: int = 10) -> float:
    """Return training FLOPs per second of this generator, the median of five steps after two."""
    manifest = {"grid": grid, "codebook_size": codebook_size, "num_classes": num_classes}
    flops = train_generator.plan(config, manifest, 1).flops_per_step[0][1]
    return flops / generator_step_seconds(config, grid, codebook_size, num_classes)


def generator_step_seconds(config: GeneratorRun, grid: tuple[int, int], codebook_size: int, num_classes: int) -> float:
    """Return the seconds of a training step of this generator: the median of five after two."""
    manifest = {"grid": grid, "codebook_size": codebook_size, "num_classes": num_classes}
    device = setup_device(config.execution)
    model = train_generator.build_model(config, manifest, device)
    (phase,) = train_generator.build_phases(config, model, Scale(config.batch_size, 1, 1, (), 1000))
    micro = {
        "tokens": torch.randint(codebook_size, (config.batch_size, grid[0] * grid[1]), device=device),
        "labels": torch.zeros(config.batch_size, dtype=torch.int64, device=device),
    }
    return _step_seconds([phase], micro, device)


def tokenizer_step_seconds(config: TokenizerRun) -> float:
    """Return the seconds of a training step of this tokenizer, all losses on: the median of five after two."""
    device = setup_device(config.execution)
    networks = build_networks(config, device)
    phases = build_phases(config, networks, Scale(config.batch_size, 1, 1, (), 10))
    shape = (config.batch_size, config.data.channels, config.data.image_size, config.data.image_size)
    return _step_seconds(phases, {"images": torch.rand(shape, device=device) * 2 - 1}, device)


def _step_seconds(phases: Sequence[Phase], micro: MicroBatch, device: torch.device) -> float:
    seconds = []
    for _ in range(STEPS + 2):
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
