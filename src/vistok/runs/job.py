"""What the three training verbs share: fingerprint, run directory, dry run, export."""

import glob
import json
import shlex
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from vistok.config import fingerprint, science
from vistok.data.sources import ImageSource
from vistok.engine.checkpoint import find_latest, finished, step_of
from vistok.engine.device import setup_device
from vistok.engine.distributed import World, join_world
from vistok.engine.ema import EMA
from vistok.engine.log import Progress, read_rows
from vistok.engine.loop import Training, train
from vistok.engine.parallel import Whole, spread
from vistok.engine.run_dir import RunDir
from vistok.engine.weights import save_weights
from vistok.errors import UserError
from vistok.runs.config import RunConfig, TokenizerRun
from vistok.runs.health.alarms import Alarms
from vistok.runs.health.record import health_record
from vistok.runs.identity import Former
from vistok.runs.plan import Plan


def run_directory(
    config: RunConfig, runs: Path, former: Sequence[Former] = (), **inputs: str
) -> tuple[RunDir, list[str]]:
    """Return `runs/<name>-<fingerprint>`, and what is to be told of its name.

    The fingerprint covers the config's science and its inputs' digests. Where there is no such run and one under a
    former name, that one is returned and the change told.
    """
    own = RunDir(runs / f"{config.name}-{fingerprint(config, **inputs)}")
    if own.path.exists():
        return own, []
    for name in former:
        old = RunDir(runs / f"{config.name}-{name.key}")
        if old.path.exists():
            return old, [
                f"run {old.path} keeps its old name, which did not cover {name.lacked}; a run begun today is named "
                f"{own.path.name}. If those changed since, move the old run away and repeat the command"
            ]
    return own, []


@dataclass
class Job:
    """A run that is ready to train: its plan, and how to build what the loop needs."""

    config: RunConfig
    plan: Plan
    run_dir: RunDir
    facts: dict[str, Any]
    build: Callable[[World], Training]
    metadata: dict[str, Any]
    warnings: Sequence[str] = ()
    # Of a run under a former name; told whether it is finished or not.
    naming: Sequence[str] = ()
    # Returns what watches the run's rows, from its first one on.
    alarms: Callable[[], Alarms] | None = None

    @property
    def finished(self) -> bool:
        """Whether the run came to its end and its weights are still there: the averaged ones, which every verb takes."""
        return self.run_dir.finished and self.run_dir.export() not in self._missing_exports()

    def train(self, progress: Progress) -> RunDir:
        """Train or resume; a finished run is left as it is. Export raw and averaged weights at the end.

        Raises UserError where a finished run's weights are gone, and no checkpoint is left to write them from.
        """
        for line in self.naming if join_world().main else ():
            progress.say(f"warning: {line}")
        if self.finished:
            return self.run_dir
        world = join_world()
        _divide(self.config, world)
        setup_device(self.config.execution)  # sets the threads that provenance records
        with self.run_dir if world.main else nullcontext():
            if world.main:
                for line in self._before(world):
                    progress.say(line)
            training = self.build(world)
            seconds = train(training, self.run_dir, progress)
            (name,) = training.emas
            with training.whole() as networks:
                if world.main:
                    with self.run_dir.writing(self.run_dir.export().parent):
                        self._export(name, networks, seconds)
            world.wait()
        return self.run_dir

    def _before(self, world: World) -> list[str]:
        """Record the sitting; return what the user should know before the training."""
        said = []
        if self.run_dir.finished and (missing := self._missing_exports()):
            last, _ = find_latest(self.run_dir.checkpoints)
            if last is None or step_of(last) != self.plan.total_steps:
                raise UserError(
                    f"run {self.run_dir.path} is finished, but its weights are gone ({missing[0]}) and no sound checkpoint "
                    "of its end is left to write them from; put the file back, or remove the run directory to train again"
                )
            said.append(
                f"run {self.run_dir.path} is finished, but {missing[0]} is gone: written again from a checkpoint"
            )
        elif not finished(self.run_dir.checkpoints) and (other := self._of_another_length()):
            said.append(other)
        summary = {**self.plan.summary(self.config), **self.facts}
        warnings = [*self.warnings, *self.run_dir.start(self.config, summary, world.size)]
        return [*said, *(f"warning: {warning}" for warning in warnings)]

    def _missing_exports(self) -> list[Path]:
        record = self.run_dir.read("finished.json") or {}
        digests = record.get("digests", {})
        if not isinstance(digests, dict):
            raise UserError(
                f"{self.run_dir.path}/finished.json: damaged (digests); delete the file and repeat the command"
            )
        exports = [self.run_dir.export(weights) for weights in digests]
        return [path for path in exports if not path.is_file()]

    def _of_another_length(self) -> str | None:
        """Name a run that differs in its length alone: this one does not go on from it, as a user may think."""
        runs = sorted(self.run_dir.path.parent.glob(f"{glob.escape(self.config.name)}-*"))
        for other in [RunDir(path) for path in runs if path != self.run_dir.path]:
            try:
                config = type(self.config).from_json(json.dumps(other.read_config()))
            except (UserError, OSError):
                continue  # no run, or one of another version
            if config.length == self.config.length or science(config.replace(length=self.config.length)) != science(
                self.config
            ):
                continue
            # A tokenizer can begin with another one's weights.
            start = f"; to begin with its weights instead, add --init-from {shlex.quote(str(other.path))}"
            return (
                f"this is a new run and starts at step 0: {other.path} differs in its length alone ({config.length}, not "
                f"{self.config.length})" + (start if isinstance(config, TokenizerRun) and other.finished else "")
            )
        return None

    def _export(self, name: str, networks: dict[str, nn.Module], seconds: float) -> None:
        facts = {"steps": self.plan.total_steps, "seconds": seconds, "train_flops": self.plan.train_flops}
        metadata = {"model": name, "recipe": self.config.name, **self.metadata, "training": facts, **self._health()}
        digests = {
            weights: save_weights(
                self.run_dir.export(weights), module.state_dict(), {**metadata, "weights": weights}, make_folder=False
            )
            for weights, module in networks.items()
        }
        self.run_dir.finish(**facts, digests=digests)

    def _health(self) -> dict[str, Any]:
        """Return what the rows, also those of earlier sittings, say of the run's end."""
        if self.alarms is None:
            return {}
        rows = read_rows(self.run_dir.metrics)
        return {"health": health_record(self.alarms()(rows).standing, rows)}


def spread_with_average(model: nn.Module, config: RunConfig, world: World) -> tuple[EMA, Whole]:
    """Return a network's average and the plain forms of both, and spread both over the processes, in place.

    Comes before optimizers are made.
    """
    ema = EMA(model, config.ema_decay)
    whole = Whole(ema, config.execution, world)
    spread(model, config.execution, world)
    spread(ema.module, config.execution.replace(recompute=False, compile=False), world)
    return ema, whole


def accumulation_check(config: RunConfig) -> None:
    """Raise UserError where the micro-batch does not divide the batch."""
    micro = config.execution.micro_batch_size
    if micro is not None and config.batch_size % micro:
        raise UserError(f"execution.micro_batch_size {micro} must divide batch_size {config.batch_size}")


def _divide(config: RunConfig, world: World) -> None:
    """Raise UserError where the batch cannot be divided among processes and micro-batches."""
    mine, micro = world.part_of(config.batch_size, "batch_size"), config.execution.micro_batch_size
    if micro is not None and mine % min(micro, mine):
        raise UserError(
            f"execution.micro_batch_size {micro} must divide each process's part of the batch: {config.batch_size} images "
            f"among {world.size} processes are {mine}"
        )


def folder_facts(source: ImageSource) -> dict[str, Any]:
    """Return what a look at the files found, for the run's record."""
    return {"images": source.report.record()} if source.report is not None else {}


def folder_warnings(source: ImageSource) -> list[str]:
    """Return what a user should know of the files before training."""
    return source.report.warnings() if source.report is not None else []


def config_json(config: RunConfig) -> dict[str, Any]:
    """Return a config as plain JSON values."""
    return json.loads(config.to_json())
