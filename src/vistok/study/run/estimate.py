"""How long a study will still take, from the tasks of each kind that have ended."""

import time
from collections.abc import Iterable

from vistok.study.run.grid import CacheTask, Task

# Cost of scoring a run, expressed in training FLOPs.
SCORING_FLOPS = 1e13


def cost(task: Task) -> float:
    """Return a task's cost in FLOPs, including that of scoring its run."""
    return task.flops + (SCORING_FLOPS if not isinstance(task, CacheTask) else 0.0)


class Estimate:
    """Seconds for each FLOP of tokenizers, caches and generators apart: they reach different shares of a machine's rate."""

    def __init__(self) -> None:
        self._begun: dict[str, float] = {}
        self._ended: dict[type, tuple[float, float]] = {}

    def begin(self, task: Task) -> None:
        """Note that a task starts."""
        self._begun[task.run] = time.monotonic()

    def end(self, task: Task, done: bool) -> None:
        """Note that a task ended; one that failed tells nothing."""
        seconds = time.monotonic() - self._begun.pop(task.run)
        if done:
            before = self._ended.get(type(task), (0.0, 0.0))
            self._ended[type(task)] = before[0] + seconds, before[1] + cost(task)

    def left(self, waiting: Iterable[Task], running: Iterable[Task], slots: int) -> float | None:
        """Return the seconds left with so many tasks at a time; None before the first has ended."""
        if not self._ended:
            return None
        now = time.monotonic()
        whole = [self._seconds(task) for task in waiting]
        parts = [max(0.0, self._seconds(task) - (now - self._begun[task.run])) for task in running]
        at_once = max(1, min(slots, len(whole) + len(parts)))
        return max(sum(whole + parts) / at_once, *parts, 0.0)

    def _seconds(self, task: Task) -> float:
        """Return what a task takes at the pace of its kind, or of all kinds where none of it has ended."""
        ended = [self._ended[type(task)]] if type(task) in self._ended else list(self._ended.values())
        return cost(task) * sum(seconds for seconds, _ in ended) / max(1.0, sum(flops for _, flops in ended))
