"""The one training loop: flat, with everything injected; things happen in the order of the lines."""

import time
from contextlib import closing
from typing import Any

import torch
from torch import Tensor

from vistok.engine.boards import open_boards
from vistok.engine.checkpoint import (
    find_and_set_aside,
    load_checkpoint,
    named_tensors,
    save_checkpoint,
    to_device,
)
from vistok.engine.distributed import Flags
from vistok.engine.divergence import exploded, how_to_go_on, last_good
from vistok.engine.log import MetricsLog, Progress, Task
from vistok.engine.optim import load_optimizer
from vistok.engine.parallel import replicate
from vistok.engine.processors import Waiting
from vistok.engine.run_dir import RunDir
from vistok.engine.statistics import NotFinite, Statistics
from vistok.engine.step import take_step
from vistok.engine.stopping import StopRequest
from vistok.engine.training import Training
from vistok.engine.transfer import sent_ahead
from vistok.errors import Stopped, UserError, in_digits
from vistok.units import total_flops


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
    statistics, flags = Statistics(run.world), Flags(run.world)

    def seconds() -> float:
        return seconds_before + time.monotonic() - started

    def position(step: int) -> dict[str, float]:
        flops = total_flops(step, run.flops_per_step)
        return {"images": step * run.batch_size, "flops": flops, "seconds": round(seconds(), 3)}

    waiting = Waiting()
    boards = open_boards(run.execution, run_dir.path, first or -1) if run.world.main else []
    with (
        StopRequest() as stop,
        # A run that starts over rewrites all of its rows, including that of step 0.
        MetricsLog(run_dir.metrics, first or -1, boards, run.world.main) as log,
        progress.task(run.name, run.total_steps, first) as bar,
        # An exception that is kept, as Python keeps the last one, keeps this frame: the processes that read images would
        # outlive the run, and ignore the SIGTERM with which Python ends its children.
        closing(sent_ahead(run.batches(range(first, run.total_steps)), run.device)) as batches,
    ):
        if first == 0:
            bar.tell("validating before the first step")
            with bar.aside():
                _validate(run, run_dir, log, 0, position(0))
            bar.tell("")
        for step in range(first, run.total_steps):
            take_step(run, next(batches), step, statistics)
            due = time.monotonic() - last_saved > 60 * run.execution.checkpoint_minutes
            stopping, due = flags.exchange(stop.requested, due and run.world.main)

            done = step + 1
            last = done == run.total_steps
            logging = last or done % run.execution.log_every == 0
            validating = last or done % run.execution.evaluate_every == 0
            saving = last or due or stopping or done in run.execution.milestones
            note = ""
            if logging or validating or saving:  # only now does the host wait for the device
                row, wrong = statistics.read()
                if wrong is not None:
                    raise _diverged(wrong, run, run_dir)
            if logging:
                row["lr"] = run.lr * run.phases[0].schedule(step)
                log.write("train", done, row, **position(done))
                _tell_alarms(run, log, done, progress)
                if run.world.main and (advice := waiting.advice(torch.get_num_threads())):
                    progress.say(f"step {done}: {advice}")
                note = _figures(run, log, bar, row)
            bar.advance(1, note, pauses=_validations_left(run, done))
            if validating:
                with bar.aside():
                    _validate(run, run_dir, log, done, position(done))
                _tell_alarms(run, log, done, progress, again=True)
                if run.world.main and not last:
                    run.report()
            if saving:
                log.sync()
                _save(run, run_dir, done, seconds())
                last_saved = time.monotonic()
                flags.forget()
            if stopping and not last:
                raise Stopped(f"stopped after step {done} of {run.total_steps}, saved in {run_dir.path}")
    return seconds()


def _figures(run: Training, log: MetricsLog, bar: Task, row: dict[str, float]) -> str:
    """Return what the bar says of the training: loss, what the last validation found, speed."""
    rate = bar.pace.rate
    loss = f"loss {next(row[name] for phase in run.phases if (name := phase.name + '/loss') in row):.4g}"
    speed = f"{in_digits(rate * run.batch_size)} images/s" if rate else ""
    return ", ".join(filter(None, (loss, run.headline(log.rows), speed)))


def _validations_left(run: Training, done: int) -> int:
    """Return how many validations are to come, including one after the step that is just done."""
    every, total = run.execution.evaluate_every, run.total_steps
    return total // every - (done - 1) // every + (total % every > 0)


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


def _validate(run: Training, run_dir: RunDir, log: MetricsLog, step: int, position: dict[str, float]) -> None:
    """Write a validation row and show its sheets; all processes first gather sharded weights."""
    with run.whole() as networks:
        if run.world.main:
            log.write("validation", step, run.evaluate(step, networks), **position)
            log.show(step, run_dir.samples)
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


def _tell_alarms(run: Training, log: MetricsLog, step: int, progress: Progress, again: bool = False) -> None:
    """Write a row and a warning for each alarm that the newest row raised; `again`: also print those still active."""
    ringing = run.alarms(log.rows)
    for alarm in ringing.raised:
        log.write_alarm(step, alarm)
        progress.say(f"warning: step {step}: {alarm.name}: {alarm}")
    fresh = {row["alarm"] for row in log.rows if row["kind"] == "alarm" and row["step"] == step and "value" in row}
    for alarm in ringing.standing:
        if again and alarm.name not in fresh:
            progress.say(f"warning: step {step}: still {alarm.name} ({alarm.value:.3g})")
    for name in ringing.ended:
        log.write_end_of_alarm(step, name)
        progress.say(f"step {step}: no longer {name}")


def _diverged(wrong: NotFinite, run: Training, run_dir: RunDir) -> UserError:
    if wrong.step == 0:
        return UserError(
            f"step 0: {', '.join(wrong.names)} is not finite before anything was learned, so the learning rate is not the cause: the images or "
            "latents, or the weights that it began with, hold values that are not finite or far too large. Nothing was saved. Make "
            "the cache again (delete its folder and repeat the command), or begin with other weights"
        )
    rate = run.lr * run.phases[0].schedule(wrong.step)
    return UserError(
        f"step {wrong.step}: {', '.join(wrong.names)} is not finite (learning rate {rate:.3g}). "
        "The run stops, and nothing from this step on was saved. "
        + how_to_go_on(last_good(run_dir.checkpoints, wrong.step, run.world), run.lr, run.init_option)
    )
