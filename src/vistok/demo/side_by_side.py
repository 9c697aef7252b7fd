"""The demo's arms, each in a process of its own, as many at a time as the machine has cores for."""

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from vistok.demo.arm import Arm, order_of
from vistok.demo.stages import STAGE, WEIGHTS
from vistok.engine import processes
from vistok.engine.log import Progress, Task
from vistok.errors import UserError

INTERVAL = 0.5  # seconds between looks at the logs
T = TypeVar("T")


def run_side_by_side(arms: Sequence[Arm], progress: Progress, meanwhile: Callable[[], T]) -> T:
    """Make these arms, and `meanwhile` in this process on one of the cores; return what it returns.

    Raises UserError with the end of its log where an arm fails, after the others have been stopped.
    """
    cores = os.cpu_count() or 1
    slots = max(1, min(len(arms), cores))
    waiting = list(arms)
    running: list[_Running] = []
    total = sum(WEIGHTS[stage] for arm in arms for stage in arm.stages())

    def start(most: int) -> None:
        while waiting and len(running) < most:
            running.append(_Running(waiting.pop(0), threads=max(1, cores // slots)))

    with progress.task(f"{len(arms)} generators", total, expect=slots) as bar:  # weights are seconds of one thread
        try:
            start(min(slots, cores - 1))
            found = meanwhile()
            while waiting or running:
                start(slots)
                time.sleep(INTERVAL)
                for one in running:
                    one.tell(bar)
                running[:] = [one for one in running if not one.ended()]
        finally:
            for one in running:
                one.stop()
    return found


class _Running:
    """A process that makes an arm, and how much of its log has been read."""

    def __init__(self, arm: Arm, threads: int) -> None:
        self.arm, self.log = arm, arm.folder / f"{arm.name}.log"
        self.read = self.log.stat().st_size if self.log.is_file() else 0
        self.process: subprocess.Popen[bytes] = processes.start(
            "vistok.demo.arm", [str(order_of(arm))], self.log, threads
        )

    def tell(self, bar: Task) -> None:
        """Advance the bar by the stages that have ended since the last look."""
        for stage in self._stages():
            bar.advance(WEIGHTS[stage], f"{self.arm.words}: {stage}")

    def _stages(self) -> list[str]:
        written = _from(self.log, self.read)
        whole = written[: written.rfind(b"\n") + 1]
        self.read += len(whole)
        lines = whole.decode(errors="replace").splitlines()
        return [line.removeprefix(STAGE) for line in lines if line.startswith(STAGE)]

    def ended(self) -> bool:
        """Whether the process has ended; raises UserError if it failed."""
        code = self.process.poll()
        if code is None:
            return False
        if failure := processes.outcome(self.log, code):
            raise UserError(f"the demo's {self.arm.words} failed: {failure}")
        return True

    def stop(self) -> None:
        """Ask the process to save its state and end."""
        self.process.terminate()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()


def _from(file: Path, place: int) -> bytes:
    """Return what was written to a file from a byte on."""
    with open(file, "rb") as log:
        log.seek(place)
        return log.read()
