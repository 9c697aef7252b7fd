"""Learning-rate schedules: pure functions from the step to a multiplier of the base rate."""

import math
from collections.abc import Callable

from vistok.engine.config import OptimizerConfig
from vistok.units import Scale

Schedule = Callable[[int], float]


def make_schedule(config: OptimizerConfig, scale: Scale) -> Schedule:
    """Return step -> multiplier for a run of `scale.total_steps` steps."""
    total = scale.total_steps
    warmup, decay = config.warmup.to_steps(scale), config.decay.to_steps(scale)

    def multiplier(step: int) -> float:
        value = linear_warmup(step, warmup, config.warmup_start)
        if config.schedule == "cosine":
            value *= cosine_decay(step, warmup, total)
        elif config.schedule == "wsd":
            value *= linear_decay(step, total - decay, total)
        return value

    return multiplier


def linear_warmup(step: int, warmup: int, start: float) -> float:
    """Rise linearly from `start` at step 0 to 1 at step `warmup`, then stay at 1."""
    return 1.0 if step >= warmup else start + (1 - start) * step / warmup


def cosine_decay(step: int, start: int, end: int) -> float:
    """Stay at 1 until `start`, then fall along a half cosine to 0 at `end`."""
    if step < start:
        return 1.0
    return 0.5 + 0.5 * math.cos(math.pi * min(1.0, (step - start) / max(end - start, 1)))


def linear_decay(step: int, start: int, end: int) -> float:
    """Stay at 1 until `start`, then fall linearly to 0 at `end`."""
    return 1.0 if step < start else max(0.0, (end - step) / max(end - start, 1))
