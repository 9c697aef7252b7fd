"""One training step. Nothing in it waits for the device: what it measures stays there until it is read."""

from collections.abc import Iterator

from torch import nn

from vistok.engine.device import autocast
from vistok.engine.optim import set_learning_rate
from vistok.engine.parallel import synced, whole_tensor
from vistok.engine.phase import MicroBatch, Phase, only
from vistok.engine.statistics import Statistics
from vistok.engine.training import Training
from vistok.rng import reseed_global


def take_step(run: Training, batch: MicroBatch, step: int, statistics: Statistics) -> None:
    """Train all active phases on this process's part of a batch, on the run's device, and update the averages."""
    phases = [phase for phase in run.phases if phase.active(step)]

    # Micro-batches outside, phases inside: a phase can reuse what an earlier one computed.
    for number, last, micro in _micro_batches(batch, run):
        share = len(micro["labels"]) / run.batch_size
        reseed_global(run.seed, "step", step, number)
        for phase in phases:
            with only(phase, run.phases), synced(phase, last):
                with autocast(run.device, run.precision):
                    loss = phase.loss(micro, step)
                total = loss.total
                # Processes average their gradients, but each loss is a share of the batch's: hence the factor.
                (total * (share * run.world.size)).backward()
            statistics.add(phase.name, total, loss, share)

    # All optimizers step at the end, so that every loss sees the same weights.
    for phase in phases:
        _clip(phase, statistics)
    statistics.close(step)
    for phase in phases:
        set_learning_rate(phase.optimizer, run.lr * phase.schedule(step))
        phase.optimizer.step()
        phase.optimizer.zero_grad(set_to_none=True)
        if phase.after_step is not None:
            phase.after_step(step)
    for ema in run.emas.values():
        ema.update(step)


def _micro_batches(batch: MicroBatch, run: Training) -> Iterator[tuple[int, bool, MicroBatch]]:
    """Yield this process's micro-batches: number among those of all processes, whether it is the last one, tensors."""
    mine = run.batch_size // run.world.size
    size = min(run.execution.micro_batch_size or mine, mine)
    first = run.world.rank * (mine // size)
    for number, start in enumerate(range(0, mine, size)):
        yield first + number, start + size >= mine, {name: t[start : start + size] for name, t in batch.items()}


def _clip(phase: Phase, statistics: Statistics) -> None:
    """Clip each group by its own norm, and note the norms before clipping."""
    for name, parameters in phase.clip_groups.items():
        norm = whole_tensor(nn.utils.clip_grad_norm_(parameters, phase.clip_norm))
        statistics.add_same(f"{phase.name}/grad_norm_{name}", norm)
