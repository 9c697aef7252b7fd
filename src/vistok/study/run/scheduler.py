"""Run what is missing from a study: in order, several tasks at a time; failures are reported and do not stop the rest."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vistok.data.images.open import images_to_fetch
from vistok.engine.log import Progress
from vistok.engine.log import Task as Bar
from vistok.errors import UserError, counted
from vistok.files import owned
from vistok.study.config import StudyConfig
from vistok.study.run.estimate import Estimate, cost, own_flops
from vistok.study.run.executor import Executor
from vistok.study.run.former import as_recorded
from vistok.study.run.grid import CacheTask, GeneratorTask, Task, TokenizerTask, expand
from vistok.study.run.order import make_order
from vistok.study.run.record import StudyFolder
from vistok.study.run.standing import DONE, FAILED, RUNNING, WAITING, Standing


@dataclass
class Outcome:
    """The outcome of running a study: its tasks by how they ended."""

    done: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    blocked: list[str] = field(default_factory=list)


def missing(tasks: Sequence[Task], folder: StudyFolder, runs: Path) -> list[Task]:
    """Return the tasks without a record, and the missing caches that generators among them need."""
    wanted = [task for task in tasks if not isinstance(task, CacheTask) and not _recorded(task, folder)]
    caches = {task.cache for task in wanted if isinstance(task, GeneratorTask)}
    lost = [task for task in tasks if isinstance(task, CacheTask) and task.run in caches and not _cached(task, runs)]
    names = {task.run for task in (*wanted, *lost)}
    return [task for task in tasks if task.run in names]


def _recorded(task: Task, folder: StudyFolder) -> bool:
    if isinstance(task, TokenizerTask):
        return folder.finished(task.run) and folder.weights_file(task.weights).is_file()
    return folder.finished(task.run)


def _cached(task: CacheTask, runs: Path) -> bool:
    from vistok.data.latents.cache import LatentCache

    place = runs / "tokens" / task.tokenizer.run
    try:
        return all(LatentCache(place / split) is not None for split in ("train", "val"))
    except UserError:
        return False


def run_study(
    study: StudyConfig, runs: Path, folder: StudyFolder, executor: Executor, threads: int | None, progress: Progress
) -> Outcome:
    """Run what is missing from a study. Raises UserError where another process is working on its runs or records."""
    with ExitStack() as owning:
        for place in {path.resolve() for path in (folder.path, runs / study.name)}:
            owning.enter_context(owned(place))
        return _run_missing(study, runs, folder, executor, threads, progress)


def _run_missing(
    study: StudyConfig, runs: Path, folder: StudyFolder, executor: Executor, threads: int | None, progress: Progress
) -> Outcome:
    tasks, notices = as_recorded(expand(study), folder)
    for line in notices:
        progress.say(f"warning: {line}")
    left = missing(tasks, folder, runs / study.name)
    finished = sum(1 for task in tasks if not isinstance(task, CacheTask) and folder.finished(task.run))
    total = sum(1 for task in tasks if not isinstance(task, CacheTask))
    progress.say(
        f"study {study.name}: {counted(total, 'run')}, {finished} recorded in {folder.path}; {counted(len(left), 'task')} to run."
    )
    if not left:
        return Outcome()
    standing = Standing(tasks, runs / study.name, folder.path)
    scheduler = _Scheduler(study, left, runs, folder, executor, threads, progress, standing)
    for task in tasks:
        if not isinstance(task, CacheTask) and folder.finished(task.run):
            scheduler.estimate.learn(task, folder.read(folder.record_file(task.run)))
    with standing.open():
        return scheduler.run()


class _Scheduler:
    """Submits tasks whose dependencies are met, in the study's order."""

    def __init__(
        self, study: StudyConfig, left: list[Task], runs: Path, folder: StudyFolder, executor: Executor,
        threads: int | None, progress: Progress, standing: Standing,
    ) -> None:  # fmt: skip
        self.study, self.runs, self.folder, self.executor = study, runs, folder, executor
        self.threads, self.progress, self.standing = threads, progress, standing
        self.waiting = {task.run: task for task in left}
        self.running: dict[str, Task] = {}
        self.outcome = Outcome()
        self.estimate = Estimate()
        self.cost = max(1.0, sum(cost(task) for task in left))

    def run(self) -> Outcome:
        """Run until no task is left that can run."""
        try:
            with self.progress.task(f"study {self.study.name} (%)", 100) as bar:
                while self.waiting or self.running:
                    self._submit()
                    self._note()
                    if not self.running:
                        break
                    for name, error in self.executor.wait():
                        self._end(name, error, bar)
                        self._note()
        finally:
            self.executor.close()
        self.outcome.blocked = list(self.waiting)
        return self.outcome

    def _submit(self) -> None:
        open_names = {*self.waiting, *self.running, *self.outcome.failed}
        for name, task in list(self.waiting.items()):
            if len(self.running) >= self.executor.slots:
                return
            if not open_names.intersection(task.needs):
                self.running[name] = self.waiting.pop(name)
                self.estimate.begin(task)
                self.executor.submit(make_order(task, self.study, self.runs, self.folder.path, self.threads))

    def _end(self, name: str, error: str | None, bar: Bar) -> None:
        task = self.running.pop(name)
        self.estimate.end(task, error is None, self._record(task) if error is None else None)
        if error is None:
            self.outcome.done.append(name)
        else:
            self.outcome.failed[name] = error
            self.progress.say(f"failed: {name}: {error}")
            self._free_branches(name)
        self._submit()
        if error is None:
            self.progress.say(f"done: {name} ({self._state()})")
            self._tell_alarms(task)
        if self.progress.bars is not None:  # without bars, the line above says it
            bar.advance(100 * cost(task) / self.cost, self._state())

    def _note(self) -> None:
        done, waiting = dict.fromkeys(self.outcome.done, DONE), dict.fromkeys(self.waiting, WAITING)
        running, failed = dict.fromkeys(self.running, RUNNING), dict.fromkeys(self.outcome.failed, FAILED)
        self.standing.note({**done, **waiting, **running, **failed})

    def _record(self, task: Task) -> dict[str, Any] | None:
        file = self.folder.record_file(task.run)
        return self.folder.read(file) if not isinstance(task, CacheTask) and file.is_file() else None

    def _tell_alarms(self, task: Task) -> None:
        """Warn of a run that ended with alarms; the study continues, and its table shows the alarms."""
        record = self._record(task)
        if record is not None and (alarms := record["row"].get("alarms")):
            self.progress.say(f"warning: {task.run} ended with alarms: {', '.join(alarms.split())}")

    def _free_branches(self, trunk: str) -> None:
        """Let runs that would branch off from a failed trunk start at step 0 instead."""
        for name, task in self.waiting.items():
            if isinstance(task, GeneratorTask) and task.trunk == trunk:
                self.waiting[name] = replace(task, trunk=None)

    def _state(self) -> str:
        left = self.estimate.words(self.waiting.values(), self.running.values(), self.executor.slots)
        outcome = self.outcome
        return (
            f"{len(outcome.done)} done, {len(self.running)} running, {len(outcome.failed)} failed, "
            f"{len(self.waiting)} waiting" + (f"; {left}" if left else "")
        )


def describe(study: StudyConfig, runs: Path, folder: StudyFolder) -> list[str]:
    """Describe what a study would run: recorded and missing runs of each grid, FLOPs, and the time where records tell it.

    Nothing is fetched or written.
    """
    lines, everything = [], Estimate()
    here = images_to_fetch(study.tokenizer.data, "train") is None
    all_left: dict[str, Task] = {}
    for grid in study.grids:
        expanded, notices = as_recorded(expand(study.replace(grids=(grid,)), fetch=False), folder)
        tasks = [task for task in expanded if not isinstance(task, CacheTask)]
        left = missing(expanded, folder, runs / study.name)
        all_left |= {task.run: task for task in left}
        for task in tasks:
            if folder.finished(task.run):
                everything.learn(task, folder.read(folder.record_file(task.run)))
        kinds = [sum(task.kind == kind for task in tasks) for kind in ("tokenizer", "generator")]
        done = len(tasks) - sum(not isinstance(task, CacheTask) for task in left)
        lines.append(
            f"{grid.name}: {counted(kinds[0], 'tokenizer')}, {counted(kinds[1], 'generator')}, {done} recorded; left: "
            f"{sum(map(own_flops, left)):.3g} training FLOPs"
        )
        lines += [f"  {line}" for line in (grid.purpose, *notices) if line]
    if not here:
        data = study.tokenizer.data
        lines.append(
            f"the images of {data.dataset} are not in {data.root} yet and would be fetched; which runs are recorded is known then"
        )
    elif words := everything.words(all_left.values(), (), 1):
        lines.append(f"{words}, one task at a time, at the pace of the recorded runs")
    return lines
