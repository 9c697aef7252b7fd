"""How long a study will still take, from the tasks that have ended: their training, and their scoring apart."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from vistok.engine.pace import in_words
from vistok.study.run.grid import GeneratorTask, Task

# What a task counts for in the bar besides its FLOPs, which scoring needs, too.
SCORING_FLOPS = 1e13


def cost(task: Task) -> float:
    """Return what a task counts for in the bar: the FLOPs that it trains for, and a share for its scores."""
    return own_flops(task) + (SCORING_FLOPS if task.kind != "cache" else 0.0)


def own_flops(task: Task) -> float:
    """Return the FLOPs that a task trains for itself: a run that starts from another one's checkpoint does the rest only."""
    if isinstance(task, GeneratorTask) and task.trunk is not None:
        return task.flops * (1 - task.branch_step / task.steps)
    return task.flops


@dataclass
class _Pace:
    """What ended tasks of one kind took: training in seconds and FLOPs, and the rest of each task in seconds."""

    seconds: float = 0.0
    flops: float = 0.0
    beside: list[float] = field(default_factory=list)

    def add(self, seconds: float, flops: float, beside: float | None) -> None:
        self.seconds, self.flops = self.seconds + seconds, self.flops + flops
        if beside is not None:
            self.beside.append(beside)


class Estimate:
    """Seconds a FLOP of training, and seconds of everything else in a task (scores above all), for each kind of task.

    Tokenizers, caches and generators reach different shares of a machine's rate, and their scores take different times. What
    earlier sittings recorded counts until a task of the kind has ended in this one: machines differ, and what else they do.
    """

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}
        self._earlier: dict[str, _Pace] = {}
        self._ended: dict[str, _Pace] = {}

    def learn(self, task: Task, record: dict[str, Any]) -> None:
        """Note a run that an earlier sitting recorded, on this machine or another."""
        row, beside = record["row"], record.get("scoring_seconds")
        pace = self._earlier.setdefault(task.kind, _Pace())
        pace.add(float(row["seconds"]), float(row["train_flops"]), None if beside is None else float(beside))

    def begin(self, task: Task) -> None:
        """Note that a task starts."""
        self._begun[task.run] = time.monotonic()

    def end(self, task: Task, done: bool, record: dict[str, Any] | None = None) -> None:
        """Note that a task ended, with the record of its run if it has one; one that failed tells nothing."""
        seconds = time.monotonic() - self._begun.pop(task.run)
        if not done:
            return
        pace = self._ended.setdefault(task.kind, _Pace())
        if record is None:
            pace.add(seconds, own_flops(task), None)
            return
        # A run that went on from an earlier sitting, or from another run, counts the seconds of those as well.
        trained = float(record["row"]["seconds"])
        beside = max(float(record.get("scoring_seconds", 0.0)), seconds - trained)
        pace.add(trained, float(record["row"]["train_flops"]), beside)

    def left(self, waiting: Iterable[Task], running: Iterable[Task], slots: int) -> float | None:
        """Return the seconds left with so many tasks at a time; None before anything is known."""
        if not self._ended and not self._earlier:
            return None
        now = time.monotonic()
        whole = [self._seconds(task) for task in waiting]
        parts = [max(0.0, self._seconds(task) - (now - self._begun[task.run])) for task in running]
        at_once = max(1, min(slots, len(whole) + len(parts)))
        return max(sum(whole + parts) / at_once, *parts, 0.0)

    def words(self, waiting: Iterable[Task], running: Iterable[Task], slots: int) -> str:
        """Return the time left in words, and what it does not cover yet; "" before anything is known."""
        waiting, running = list(waiting), list(running)
        seconds = self.left(waiting, running, slots)
        if seconds is None:
            return ""
        unknown = dict.fromkeys(f"{task.kind}s" for task in (*waiting, *running) if not self._scored(task.kind))
        if not unknown:
            return f"about {in_words(seconds)} left"
        return f"about {in_words(seconds)} left and the scores of {' and '.join(unknown)}, none of which has been scored yet"

    def _scored(self, kind: str) -> bool:
        return kind == "cache" or bool(self._scores(kind))

    def _scores(self, kind: str) -> list[float]:
        """Return what the scores of a kind of task took, in this sitting if any was scored in it."""
        paces = [paces[kind].beside for paces in (self._ended, self._earlier) if kind in paces]
        return next(filter(None, paces), [])

    def _seconds(self, task: Task) -> float:
        """Return what a task takes at the pace of its kind, or of all kinds where none of it has ended, and its scores."""
        known = self._ended.get(task.kind) or self._earlier.get(task.kind)
        paces = [known] if known else [*self._ended.values(), *self._earlier.values()]
        pace = sum(one.seconds for one in paces) / max(1.0, sum(one.flops for one in paces))
        scores = self._scores(task.kind)
        return own_flops(task) * pace + (sum(scores) / len(scores) if scores else 0.0)
