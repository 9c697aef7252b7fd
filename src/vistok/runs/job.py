"""A run that is ready to train, prepared in one way for tokenizers, generators of every family and classifiers."""

import glob
import json
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from vistok.config import fingerprint, science
from vistok.data.images.sources import ImageSource
from vistok.data.loader import train_images
from vistok.engine import processors
from vistok.engine.checkpoint import drop_checkpoints, find_latest
from vistok.engine.checkpoint_files import finished, step_of
from vistok.engine.device import setup_device
from vistok.engine.distributed import World, join_world
from vistok.engine.ema import EMA
from vistok.engine.log import Progress, Ringing, read_rows
from vistok.engine.loop import train
from vistok.engine.objective import Objective
from vistok.engine.parallel import Weights, Whole, spread
from vistok.engine.phase import MicroBatch
from vistok.engine.provenance import cpu_name
from vistok.engine.run_dir import RunDir
from vistok.engine.training import Training
from vistok.engine.weights import save_weights
from vistok.errors import UserError
from vistok.runs.config import ClassifierRun, RunConfig, TokenizerRun
from vistok.runs.curves import headline
from vistok.runs.ending import ending, keep_ending, missing_exports
from vistok.runs.health.alarms import Alarms
from vistok.runs.health.gate import health_record
from vistok.runs.identity import Former
from vistok.runs.plan import Plan


def run_directory(
    config: RunConfig, runs: Path, former: Sequence[Former] = (), **inputs: str
) -> tuple[RunDir, list[str]]:
    """Return `runs/<name>-<fingerprint>`, and what the user should be told about its name.

    The fingerprint covers the scientific part of the config and the digests of its inputs. If there is no such run, but
    one under a former name, that one is returned with a note.
    """
    current = RunDir(runs / f"{config.name}-{fingerprint(config, **inputs)}")
    if current.path.exists():
        return current, []
    for name in former:
        old = RunDir(runs / f"{config.name}-{name.key}")
        if old.path.exists():
            return old, [
                f"run {old.path} keeps its old name, which did not cover {name.lacked}; a run started today would be named "
                f"{current.path.name}. If those have changed since, move the old run away and repeat the command"
            ]
    return current, []


# A validation: takes the step and the networks' EMA and raw weights, returns what it measured.
Evaluate = Callable[[int, Weights], dict[str, float]]


class Page(Protocol):
    """What is written of a run for people to read: anew after validations, and when it ends, one way or another."""

    def update(self) -> None:
        """Write it while the run goes on."""
        ...

    def close(self) -> None:
        """Write it for the last time; raises nothing, as what ended the run is reported elsewhere."""
        ...


@dataclass(kw_only=True)
class Job:
    """What to train, on what, and how to judge it; `train` does the work.

    `objective`, `batches` and `evaluate` are called when training begins. `check` refuses what cannot run on this number
    of processes; `naming` holds notes on a run under a former name; `alarms` creates what watches the run's rows.
    """

    config: RunConfig
    plan: Plan
    run_dir: RunDir
    num_images: int
    objective: Callable[[torch.device, World], Objective]
    batches: Callable[[range, World], Iterator[MicroBatch]]
    evaluate: Callable[[torch.device], Evaluate]
    # For the header of the weights: the network's config, its classes, its data set.
    metadata: dict[str, Any]
    facts: dict[str, Any]
    warnings: Sequence[str] = ()
    naming: Sequence[str] = ()
    alarms: Callable[[], Alarms] | None = None
    check: Callable[[World], None] = lambda world: None
    page: Page | None = None
    # The command-line option that starts a run from a checkpoint's weights, if the verb has one.
    init_option: str = ""
    # What is found from the images before training, if anything: it changes the objective's networks.
    fit: Callable[[Objective, torch.device, World, Progress], None] | None = None

    @property
    def finished(self) -> bool:
        """Whether the run has ended and its weights are still there: at least the EMA weights, which all verbs use."""
        ended = ending(self.run_dir, self.plan.total_steps)
        return bool(ended) and all(path.stem.endswith("raw") for path in missing_exports(self.run_dir, ended))

    def train(self, progress: Progress) -> RunDir:
        """Train or resume, and export raw and EMA weights at the end; a finished run is left alone.

        A finished run keeps its weights and the checkpoints at `execution.milestones`, no others. Raises UserError if its
        weights are gone and no checkpoint of its last step is left to restore them from.
        """
        world = join_world()
        for line in self.naming if world.main else ():
            progress.say(f"warning: {line}")
        if self.finished:
            if world.main:
                self.run_dir.keep_config(self.config)
                keep_ending(self.run_dir, self.plan.total_steps)
            world.wait()
            return self.run_dir
        require_whole_parts(self.config, world)
        setup_device(self.config.execution)
        note = self._set_threads()  # which provenance records
        if note and world.main:
            progress.say(note)
        try:
            with self.run_dir if world.main else nullcontext():
                self._train(world, progress)
        finally:
            if world.main and self.page:
                self.page.close()
        return self.run_dir

    def _set_threads(self) -> str | None:
        """Go on with as many threads as the run began with, unless the user has chosen; return what the user should know."""
        if self.config.execution.threads is not None:
            return None
        began = self.run_dir.read("provenance.json")
        if threads := processors.threads_of(began, cpu_name()):
            torch.set_num_threads(threads)
        return processors.told(torch.get_num_threads(), began is not None)

    def _train(self, world: World, progress: Progress) -> None:
        self.check(world)
        # Before the run is recorded: what is refused here, such as a missing file of weights, leaves no run behind.
        with progress.doing(f"{self.config.name}: building the networks"):
            objective = self.objective(setup_device(self.config.execution), world)
        if world.main:
            for line in self._before(world):
                progress.say(line)
            progress.say(f"{self.config.name}: {self.plan.total_steps:,} steps, in {self.run_dir.path}")
        if self.fit is not None:
            self.fit(objective, setup_device(self.config.execution), world, progress)
        training = self.training(world, objective)
        seconds = train(training, self.run_dir, progress)
        with training.whole() as networks:
            if world.main:
                with self.run_dir.writing(self.run_dir.export().parent):
                    self._export(networks, seconds)
                    drop_checkpoints(self.run_dir.checkpoints, self.config.execution.milestones)
        world.wait()

    def training(self, world: World, objective: Objective | None = None) -> Training:
        """Spread the networks over the processes, new ones if none are given, and return what the loop needs."""
        config, device = self.config, setup_device(self.config.execution)
        objective = objective or self.objective(device, world)
        emas = {name: EMA(objective.networks[name], config.ema_decay) for name in objective.averaged}
        # This has to happen before sharding, and optimizers are built after it.
        whole = Whole(emas, config.execution, world)
        for network in objective.networks.values():
            if hasattr(network, "spread_units"):
                spread(network, config.execution, world)
        ema_execution = config.execution.replace(recompute=False, compile=False)
        for ema in emas.values():
            if hasattr(ema.module, "spread_units"):
                spread(ema.module, ema_execution, world)
        return Training(
            name=config.name,
            phases=objective.phases(self.plan.scale(config, self.num_images), world),
            emas=emas,
            whole=whole,
            batches=lambda steps: self.batches(steps, world),
            evaluate=self.evaluate(device),
            total_steps=self.plan.total_steps,
            batch_size=config.batch_size,
            flops_per_step=self.plan.flops_per_step,
            lr=config.optimizer.lr,
            seed=config.seed,
            precision=config.precision,
            device=device,
            execution=config.execution,
            world=world,
            alarms=self.alarms() if self.alarms else lambda rows: Ringing(),
            init_option=self.init_option,
            headline=partial(headline, kind=config.kind),
            report=self.page.update if self.page else lambda: None,
        )

    def _before(self, world: World) -> list[str]:
        """Record this sitting; return what the user should know before training starts."""
        notes = []
        if missing := missing_exports(self.run_dir, ending(self.run_dir, self.plan.total_steps)):
            last, _ = find_latest(self.run_dir.checkpoints)
            if last is None or step_of(last) != self.plan.total_steps:
                raise UserError(
                    f"run {self.run_dir.path} is finished, but its weights are gone or damaged ({missing[0]}) and no "
                    "sound final checkpoint is left to restore them from; put the file back, or remove the run directory to train again"
                )
            notes.append(
                f"run {self.run_dir.path} is finished, but {missing[0]} is gone or damaged: restoring it from a checkpoint"
            )
        elif not finished(self.run_dir.checkpoints) and (other := self._like_this_one()):
            notes.append(other)
        summary = {**self.plan.summary(self.config), **self.facts}
        warnings = [*self.warnings, *self.run_dir.start(self.config, summary, world.size)]
        return [*notes, *(f"warning: {warning}" for warning in warnings)]

    def _like_this_one(self) -> str | None:
        """Point out a run that differs only in length, or in its pictures, since a user may expect this one to continue it."""
        runs = sorted(self.run_dir.path.parent.glob(f"{glob.escape(self.config.name)}-*"))
        for other in [RunDir(path) for path in runs if path != self.run_dir.path]:
            try:
                config = type(self.config).from_json(json.dumps(other.read_config()))
                alike = self._on_the_same(other)
            except (UserError, OSError):
                continue  # not a run, a damaged one, or one from another version
            changed = science(config.replace(length=self.config.length)) != science(self.config)
            if changed or (config.length == self.config.length) == alike:
                continue
            if not alike and not self._on_other_pictures(config, other):
                continue
            if not alike:
                return (
                    f"this is a new run and starts at step 0: {other.path} has the same settings and was made of other pictures; files "
                    "have been added, removed or changed since, or it was another folder"
                )
            # A tokenizer can start from another one's weights.
            start = f"; to start from its weights instead, add --init-from {shlex.quote(str(other.path))}"
            return (
                f"this is a new run and starts at step 0: {other.path} differs only in its length ({config.length}, not "
                f"{self.config.length})" + (start if self.init_option and other.finished else "")
            )
        return None

    def _on_other_pictures(self, config: RunConfig, other: RunDir) -> bool:
        """Whether another run was made of the same networks, and of other images of the same folder."""
        roots = [_root_in(each) for each in (config, self.config)]
        return roots[0] is not None and roots[0] == roots[1] and self._on_the_same(other, besides=_OF_IMAGES)

    def _on_the_same(self, other: RunDir, besides: Sequence[str] = ()) -> bool:
        """Whether another run was made of the same images and networks, wherever they lie; configs do not name their contents.

        `besides`: facts that may differ.
        """
        theirs, ours = other.read("resolved.json") or {}, json.loads(json.dumps(self.facts))
        names = [name for name in ours if name not in besides]
        facts = [_placeless({name: each.get(name) for name in names}) for each in (theirs, ours)]
        return bool(facts[0] == facts[1])

    def _export(self, networks: Weights, seconds: float) -> None:
        """Write all averaged networks' weights: `model` and `raw` for the run's main network, the others by name."""
        facts = {"steps": self.plan.total_steps, "seconds": seconds, "train_flops": self.plan.train_flops}
        metadata = {"recipe": self.config.name, **self.metadata, "training": facts, **self._health()}
        first, digests = next(iter(networks["ema"])), {}
        for weights, modules in networks.items():
            for name, module in modules.items():
                key = weights if name == first else f"{name}-{weights}"
                header = {"model": self.config.kind if name == first else name, **metadata, "weights": weights}
                file = self.run_dir.export(key)
                digests[key] = save_weights(file, module.state_dict(), header, make_folder=False)
        self.run_dir.finish(**facts, digests=digests)

    def _health(self) -> dict[str, Any]:
        """Return the health record, from the rows of all sittings."""
        if self.alarms is None:
            return {}
        rows = read_rows(self.run_dir.metrics)
        return {"health": health_record(self.alarms()(rows).standing, rows)}


def require_whole_parts(config: RunConfig, world: World) -> None:
    """Raise UserError if the batch cannot be divided among processes and micro-batches; a micro-batch is at most a process's part."""
    mine, micro = world.part_of(config.batch_size, "batch_size"), config.execution.micro_batch_size
    if micro is None or mine % min(micro, mine) == 0:
        return
    fits = next(size for size in range(micro, 0, -1) if mine % size == 0)
    of = f"batch_size {config.batch_size}"
    if world.size > 1:
        of = (
            f"each process's part of the batch: {config.batch_size} images among {world.size} processes are {mine} each"
        )
    raise UserError(f"execution.micro_batch_size {micro} must divide {of}; {fits} does")


def folder_facts(source: ImageSource) -> dict[str, Any]:
    """Return the facts about the image files that go into the run's record."""
    return {"images": source.report.record()} if source.report is not None else {}


def folder_warnings(source: ImageSource) -> list[str]:
    """Return what a user should know about the image files before training."""
    return source.report.warnings() if source.report is not None else []


def config_json(config: RunConfig) -> dict[str, Any]:
    """Return a config as plain JSON values."""
    return json.loads(config.to_json())


def image_batches(
    config: TokenizerRun | ClassifierRun, source: ImageSource, steps: range, world: World
) -> Iterator[MicroBatch]:
    """Yield this process's share of each step's training images."""
    part = (world.rank, world.size)
    return train_images(source, config.data, config.seed, config.batch_size, steps, config.execution.num_workers, part)


# What a run's record says of its images.
_OF_IMAGES = ("images", "num_images", "class_names", "data_digest")


def _root_in(config: RunConfig) -> str | None:
    """Return the folder of images that a config names, if it names one."""
    data = getattr(config, "data", None)
    return None if data is None else os.path.abspath(data.root)


def _placeless(facts: Any) -> Any:
    """Return JSON values without the paths in them."""
    if isinstance(facts, dict):
        return {name: _placeless(value) for name, value in facts.items() if name != "path"}
    return facts
