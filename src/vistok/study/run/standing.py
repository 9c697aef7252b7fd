"""How a study stands while it runs: its tasks and what each of them is doing, in a file for whoever looks on."""

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from vistok.errors import UserError, damage_is_a_mistake
from vistok.files import is_locked, read_json, write_json
from vistok.study.run.grid import CacheTask, GeneratorTask, Task

WAITING, RUNNING, FAILED, DONE = "waiting", "running", "failed", "done"
_FILE, _LOCK = "standing.json", "standing.lock"


@dataclass(frozen=True)
class Cell:
    """A run of a study: its choices, its length in steps (0 for tokenizers), its seed, and where it stands."""

    run: str
    tokenizer: str
    generator: str
    steps: int
    seed: int
    state: str


class Standing:
    """Writes how the tasks of a study stand below `place`, the folder of its runs; `results`: that of its records."""

    def __init__(self, tasks: Sequence[Task], place: Path, results: Path) -> None:
        self.cells = [_cell(task) for task in tasks if not isinstance(task, CacheTask)]
        self.folder, self.results = place / "logs", results
        self._written = False

    @contextmanager
    def open(self) -> Iterator[None]:
        """Hold a lock while the study runs, which tells those who look on that what they read still goes on."""
        lock = None
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield
        finally:
            if lock is not None:
                os.close(lock)

    def note(self, states: Mapping[str, str]) -> None:
        """Write the states of tasks by run; looking on must never stop the work, so nothing is raised if that fails."""
        before, self.cells = self.cells, [replace(cell, state=states.get(cell.run, cell.state)) for cell in self.cells]
        if self._written and self.cells == before:
            return
        content = {"results": str(self.results.resolve()), "cells": [asdict(cell) for cell in self.cells]}
        with suppress(OSError, UserError):
            write_json(self.folder / _FILE, content, make_folder=True)
            self._written = True


def _cell(task: Task) -> Cell:
    if isinstance(task, GeneratorTask):
        return Cell(task.run, task.tokenizer.choice, task.choice, task.steps, task.config.seed, DONE)
    assert not isinstance(task, CacheTask)
    return Cell(task.run, task.choice, "", 0, task.config.seed, DONE)


def read_standing(place: Path) -> tuple[list[Cell], Path, bool] | None:
    """Return a study's cells, the folder of its results and whether it runs now; None where none was written.

    `place`: the folder of its runs. A task that ran when the study was stopped waits. Raises UserError for a damaged file.
    """
    file = place / "logs" / _FILE
    if not file.is_file():
        return None
    what, advice = f"{file}", "delete the file; vistok study run writes it again"
    content = read_json(file, what, advice)
    with damage_is_a_mistake(what, advice):
        cells = [Cell(**cell) for cell in content["cells"]]
        results = Path(content["results"])
    alive = is_locked(place / "logs" / _LOCK)
    if not alive:
        cells = [replace(cell, state=WAITING) if cell.state == RUNNING else cell for cell in cells]
    return cells, results, alive
