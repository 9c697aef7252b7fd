"""How fast this machine trains: FLOPs per second of a few steps, measured now."""

import statistics
import time

import torch

from vistok.engine.device import setup_device
from vistok.tasks import train_generator
from vistok.tasks.config import GeneratorRun
from vistok.units import Scale

STEPS = 5


def training_rate(config: GeneratorRun, grid: tuple[int, int], codebook_size: int, num_classes: int = 10) -> float:
    """Return training FLOPs per second of this generator, the median of five steps after two."""
    manifest = {"grid": grid, "codebook_size": codebook_size, "num_classes": num_classes}
    flops = train_generator.plan(config, manifest, 1).flops_per_step[0][1]
    device = setup_device(config.execution)
    model = train_generator.build_model(config, manifest, device)
    (phase,) = train_generator.build_phases(config, model, Scale(config.batch_size, 1, 1, (), 1000))
    micro = {
        "tokens": torch.randint(codebook_size, (config.batch_size, grid[0] * grid[1]), device=device),
        "labels": torch.zeros(config.batch_size, dtype=torch.int64, device=device),
    }
    seconds = []
    for _ in range(STEPS + 2):
        started = time.perf_counter()
        phase.loss(micro, 0).total.backward()
        phase.optimizer.step()
        phase.optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return flops / statistics.median(seconds[2:])
