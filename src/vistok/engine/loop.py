"""The one training loop: flat, with everything injected; things happen in the order of the lines."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vistok.engine.checkpoint import (
    find_and_set_aside,
    load_checkpoint,
    named_tensors,
    save_checkpoint,
    to_device,
)
from vistok.engine.config import ExecutionConfig
from vistok.engine.device import autocast
from vistok.engine.distributed import ALONE, World
from vistok.engine.divergence import exploded, how_to_go_on, last_good
from vistok.engine.ema import EMA
from vistok.engine.log import MetricsLog, Progress, Ringing, Row
from vistok.engine.optim import load_optimizer, set_learning_rate
from vistok.engine.parallel import Weights, Whole, replicate, synced, whole_tensor
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss, only
from vistok.engine.run_dir import RunDir
from vistok.engine.stopping import StopRequest
from vistok.errors import Stopped, UserError
from vistok.rng import reseed_global
from vistok.units import total_flops


@dataclass
class Training:
    """Everything the loop needs to know about a run.

    `batches` yields this process's part of every batch; `evaluate` receives the step and the networks from `whole`;
    `alarms` receives the rows so far, the last of which is new. `init_option` is the command's option that starts a run
    from a checkpoint's weights, if it has one.
    """

    name: str
    phases: Sequence[Phase]
    emas: dict[str, EMA]
    whole: Whole
    batches: Callable[[range], Iterator[MicroBatch]]
    evaluate: Callable[[int, Weights], dict[str, float]]
    total_steps: int
    batch_size: int
    flops_per_step: Sequence[tuple[int, float]]
    lr: float
    seed: int
    precision: str
    device: torch.device
    execution: ExecutionConfig
    world: World = ALONE
    alarms: Callable[[Sequence[Row]], Ringing] = lambda rows: Ringing()
    init_option: str = ""


def train(run: Training, run_dir: RunDir, progress: Progress) -> float:
    """Train to the end, resuming from the newest sound checkpoint; return the total seconds of training.

    Raises Stopped when asked to stop (the state is saved), and UserError when a loss is not finite, the weights have
    exploded, or the run directory was moved away.
    """
    first, seconds_before = _resume(run, run_dir, progress)
    if run.world.main:
        run_dir.goes_on_from(first)
    replicate(run.phases, run.world)
    started = last_saved = time.monotonic()

    def seconds() -> float:
        return seconds_before + time.monotonic() - started

    def position(step: int) -> dict[str, float]:
        flops = total_flops(step, run.flops_per_step)
        return {"images": step * run.batch_size, "flops": flops, "seconds": round(seconds(), 3)}

    with (
        StopRequest() as stop,
        # A run that starts over rewrites all of its rows, including that of step 0.
        MetricsLog(run_dir.metrics, first or -1, run.execution.tensorboard, run.world.main) as log,
        progress.task(run.name, run.total_steps) as bar,
    ):
        bar.advance(first)
        if first == 0:
            _validate(run, log, 0, position(0))
        batches = run.batches(range(first, run.total_steps))
        for step in range(first, run.total_steps):
            phases = [phase for phase in run.phases if phase.active(step)]
            values: dict[str, Tensor] = {}

            # Micro-batches outside, phases inside: a phase can reuse what an earlier one computed.
            for number, last, micro in _micro_batches(next(batches), run):
                share = len(micro["labels"]) / run.batch_size
                reseed_global(run.seed, "step", step, number)
                for phase in phases:
                    with only(phase, run.phases), synced(phase, last):
                        with autocast(run.device, run.precision):
                            loss = phase.loss(micro, step)
                        # Processes average their gradients, but each loss is a share of the batch's: hence the factor.
                        (loss.total * (share * run.world.size)).backward()
                    _accumulate(values, phase.name, loss, share)

            # All optimizers step at the end, so that every loss sees the same weights.
            due = time.monotonic() - last_saved > 60 * run.execution.checkpoint_minutes
            values, stopping, due = _exchange(values, stop.requested, due, run.world)
            for phase in phases:
                values |= _clip(phase)
            _require_finite(values, step, run, run_dir)
            for phase in phases:
                set_learning_rate(phase.optimizer, run.lr * phase.schedule(step))
                phase.optimizer.step()
                phase.optimizer.zero_grad(set_to_none=True)
                if phase.after_step is not None:
                    phase.after_step(step)
            for ema in run.emas.values():
                ema.update(step)

            done = step + 1
            note = ""
            if done % run.execution.log_every == 0 or done == run.total_steps:
                row = {name: float(value) for name, value in values.items()}
                row["lr"] = run.lr * run.phases[0].schedule(step)
                log.write("train", done, row, **position(done))
                _tell_alarms(run, log, done, progress)
                note = f"loss {row[run.phases[0].name + '/loss']:.4f}"
            bar.advance(1, note)
            if done % run.execution.evaluate_every == 0 or done == run.total_steps:
                _validate(run, log, done, position(done))
                _tell_alarms(run, log, done, progress, again=True)
            stopping = stopping or (stop.requested and run.world.size == 1)
            if due or stopping or done == run.total_steps or done in run.execution.milestones:
                log.sync()
                _save(run, run_dir, done, seconds())
                last_saved = time.monotonic()
            if stopping and done < run.total_steps:
                raise Stopped(f"stopped after step {done} of {run.total_steps}, saved in {run_dir.path}")
    return seconds()


def _save(run: Training, run_dir: RunDir, step: int, seconds: float) -> None:
    """Write a checkpoint, unless the weights have exploded: a run must not resume from those, nor end with them."""
    state = _state(run, seconds)
    if exploding := exploded(state, run.world):
        raise UserError(
            f"step {step}: training diverged, {', '.join(exploding[:3])} (learning rate "
            f"{run.lr * run.phases[0].schedule(step - 1):.3g}). These weights were not saved. "
            + how_to_go_on(last_good(run_dir.checkpoints, step, run.world), run.lr, run.init_option)
        )
    kept = (run.execution.keep_checkpoints, run.execution.milestones)
    with run_dir.writing():
        save_checkpoint(run_dir.checkpoints, step, state, *kept, run.world)


def _validate(run: Training, log: MetricsLog, step: int, position: dict[str, float]) -> None:
    """Write a validation row; all processes first gather sharded weights."""
    with run.whole() as networks:
        if run.world.main:
            log.write("validation", step, run.evaluate(step, networks), **position)
    run.world.wait()


def _resume(run: Training, run_dir: RunDir, progress: Progress) -> tuple[int, float]:
    """Load the newest sound checkpoint into the run; return (steps done, seconds spent)."""
    fresh, path = _state(run, 0.0), None
    if run.world.main:
        path, warnings = find_and_set_aside(run_dir.checkpoints, named_tensors(fresh))
        for warning in warnings:
            progress.say(f"warning: {warning}")
    path = run.world.agree(path)
    if path is None:
        return 0, 0.0
    if not all(run.world.collect(path.exists())):
        raise UserError(
            f"some processes cannot see the checkpoint {path}, from which the first one resumes; all processes need the "
            "same run directory: put it on a shared disk"
        )
    step, state = load_checkpoint(path, _layout(run, fresh))
    _load_state(run, state)
    progress.say(f"{run.name}: resuming from step {step} of {run.total_steps}")
    return step, float(state["seconds"])


def _layout(run: Training, state: dict[str, Any]) -> dict[str, Tensor]:
    """Return tensors to shard a checkpoint's like: the run's own, and for an optimizer's moments the weights."""
    layout = named_tensors(state)
    for phase in run.phases:
        weights = [weight for group in phase.optimizer.param_groups for weight in group["params"]]
        for number, weight in enumerate(weights):
            layout |= {
                f"/phases/{phase.name}/optimizer/state/{number}/{moment}": weight
                for moment in ("exp_avg", "exp_avg_sq")
            }
    return layout


def _state(run: Training, seconds: float) -> dict[str, Any]:
    return {
        "seconds": seconds,
        "phases": {
            phase.name: {
                "modules": [module.state_dict() for module in phase.modules],
                "optimizer": phase.optimizer.state_dict(),
            }
            for phase in run.phases
        },
        "emas": {name: ema.module.state_dict() for name, ema in run.emas.items()},
    }


def _load_state(run: Training, state: dict[str, Any]) -> None:
    for phase in run.phases:
        saved = state["phases"][phase.name]
        for module, weights in zip(phase.modules, saved["modules"], strict=True):
            module.load_state_dict(weights)
        load_optimizer(phase.optimizer, to_device(saved["optimizer"], run.device))
    for name, ema in run.emas.items():
        ema.module.load_state_dict(state["emas"][name])


def _micro_batches(batch: MicroBatch, run: Training) -> Iterator[tuple[int, bool, MicroBatch]]:
    """Yield this process's micro-batches: number among those of all processes, whether it is the last one, tensors."""
    mine = run.batch_size // run.world.size
    size = min(run.execution.micro_batch_size or mine, mine)
    first = run.world.rank * (mine // size)
    for number, start in enumerate(range(0, mine, size)):
        part = {name: t[start : start + size].to(run.device, non_blocking=True) for name, t in batch.items()}
        yield first + number, start + size >= mine, part


def _exchange(values: dict[str, Tensor], stop: bool, due: bool, world: World) -> tuple[dict[str, Tensor], bool, bool]:
    """Sum the logged values over processes; stop if any was asked to, save if the main one is due to."""
    if world.size == 1:
        return values, stop, due
    mine = torch.stack([value.float() for value in values.values()])
    flags = torch.tensor([float(stop), float(due and world.main)], device=mine.device)
    total = world.sum(torch.cat([mine, flags]))
    return dict(zip(values, total, strict=False)), bool(total[-2] > 0), bool(total[-1] > 0)


def _tell_alarms(run: Training, log: MetricsLog, step: int, progress: Progress, again: bool = False) -> None:
    """Write a row and a warning for each alarm that the newest row raised; `again`: also print those still active."""
    ringing = run.alarms(log.rows)
    for alarm in ringing.raised:
        log.write_alarm(step, alarm)
        progress.say(f"warning: step {step}: {alarm.name}: {alarm}")
    fresh = {row["alarm"] for row in log.rows if row["kind"] == "alarm" and row["step"] == step} if again else set()
    for alarm in ringing.standing:
        if again and alarm.name not in fresh:
            progress.say(f"warning: step {step}: still {alarm.name} ({alarm.value:.3g})")
    for name in ringing.ended:
        progress.say(f"step {step}: no longer {name}")


def _accumulate(values: dict[str, Tensor], phase: str, loss: PhaseLoss, share: float) -> None:
    """Add a micro-batch's terms, weighted by its share of the batch."""
    for name, value in {"loss": loss.total, **loss.terms, **loss.statistics}.items():
        key = f"{phase}/{name}"
        part = value.detach() * share
        values[key] = values[key] + part if key in values else part


def _clip(phase: Phase) -> dict[str, Tensor]:
    """Clip each group by its own norm; return the norms before clipping."""
    return {
        f"{phase.name}/grad_norm_{name}": whole_tensor(nn.utils.clip_grad_norm_(parameters, phase.clip_norm))
        for name, parameters in phase.clip_groups.items()
    }


def _require_finite(values: dict[str, Tensor], step: int, run: Training, run_dir: RunDir) -> None:
    if torch.isfinite(torch.stack([value.float() for value in values.values()])).all():
        return
    bad = [name for name, value in values.items() if not torch.isfinite(value)]
    raise UserError(
        f"step {step}: {', '.join(bad)} is not finite (learning rate {run.lr * run.phases[0].schedule(step):.3g}). "
        "The run stops before its weights are damaged. "
        + how_to_go_on(last_good(run_dir.checkpoints, step, run.world), run.lr, run.init_option)
    )
