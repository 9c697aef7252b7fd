"""What a run reports: rows in metrics.jsonl, TensorBoard, and progress on the terminal."""

import errno
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from vistok.engine.boards import Board, picture_name, sheets_of
from vistok.engine.pace import Pace, in_words
from vistok.errors import printable
from vistok.files import disk_error, read_bytes, write_atomic

Row = dict[str, Any]


@dataclass(frozen=True)
class Alarm:
    """A sign in the rows that a run is going wrong: a name, the value that shows it, and what to do.

    `found` and `advice` say in words what the rows show and how to fix it. `dead`: nothing should be built on the run.
    """

    name: str
    value: float
    found: str
    advice: str
    dead: bool = False

    def __str__(self) -> str:
        return f"{self.found}. {self.advice}"


@dataclass(frozen=True)
class Ringing:
    """The alarms active after the newest row, those among them that it raised, and the names of those it ended."""

    standing: tuple[Alarm, ...] = ()
    raised: tuple[Alarm, ...] = ()
    ended: tuple[str, ...] = ()


class MetricsLog:
    """Appends rows; when opened at a step, it first drops the rows of later steps (a resumed run rewrites them).

    `rows` are all rows so far; `boards` get every row and every sheet as well. Processes other than the main one keep none and write nothing.
    """

    def __init__(self, path: Path, step: int, boards: Sequence[Board] = (), active: bool = True) -> None:
        self.path, self.active = path, active
        self.rows: list[Row] = []
        self._boards = boards
        if not active:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows = [row for row in read_rows(path) if row["step"] <= step]
        write_atomic(path, "".join(json.dumps(row) + "\n" for row in self.rows).encode())
        # Unbuffered: each row is written at once, and none is left to flush at the end.
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 (closed by close)

    def write(self, kind: str, step: int, values: dict[str, float], **position: float) -> None:
        """Append one row: kind, step, position (images, flops, seconds) and all values that are finite."""
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        self._append({"kind": kind, "step": step, **position, **finite})
        for board in self._boards:
            board.numbers(kind, step, finite)

    def show(self, step: int, samples: Path) -> None:
        """Pass the sheets that a validation has made to the boards."""
        for board in self._boards:
            for png in sheets_of(step, samples):
                board.picture(picture_name(png), step, png)

    def write_alarm(self, step: int, alarm: Alarm) -> None:
        """Append an alarm as a row."""
        told = {"alarm": alarm.name, "value": alarm.value, "advice": str(alarm), "dead": alarm.dead}
        self._append({"kind": "alarm", "step": step, **told})

    def write_end_of_alarm(self, step: int, name: str) -> None:
        """Append a row that says that an alarm has ended."""
        self._append({"kind": "alarm", "step": step, "alarm": name, "ended": True})

    def _append(self, row: Row) -> None:
        if not self.active:
            return
        self.rows.append(row)
        line = (json.dumps(row) + "\n").encode()
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, "row cut")
        except OSError as error:
            raise disk_error(self.path, error) from None

    def sync(self) -> None:
        """Flush all rows to disk; an OSError names the file."""
        try:
            if self.active:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise disk_error(self.path, error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Sync and close."""
        self.sync()
        if self.active:
            self._file.close()
        for board in self._boards:
            board.close()


def last_validation(rows: Sequence[Row]) -> Row:
    """Return the last row of a validation; an empty one before the first."""
    return next((row for row in reversed(rows) if row["kind"] == "validation"), {})


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a metrics file; truncated or damaged lines are left out.

    Raises an OSError that names the file if it exists but cannot be read: a resumed run would otherwise drop its rows.
    """
    try:
        content = read_bytes(path)
    except FileNotFoundError:
        return []
    rows = []
    for line in content.decode(errors="replace").splitlines():
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict) and isinstance(row.get("step"), int) and isinstance(row.get("kind"), str):
            rows.append(row)
    return rows


SPOKEN = 10.0  # seconds between lines, where there are no bars


class _Bars(RichProgress):
    """Bars as wide as the terminal, each with its figures on a line below."""

    def get_renderables(self) -> Iterator[Any]:
        for task in self.tasks:
            yield self.make_tasks_table([task])
            if task.fields["note"]:
                yield Text("  " + task.fields["note"], overflow="ellipsis", no_wrap=True)


class Task:
    """One progress bar."""

    def __init__(self, progress: "Progress", name: str, total: int, done: int = 0, expect: float | None = None) -> None:
        self.progress, self.name, self.total = progress, name, total
        self.pace = Pace(total, done, expect, time.monotonic())
        self._spoken, self._note = time.monotonic(), ""
        bars = progress.bars
        self._started = time.monotonic()
        self._id = (
            bars.add_task(printable(name), total=total, completed=done, note="", time=self.left()) if bars else None
        )

    def advance(self, count: float = 1, note: str = "", pauses: int = 0) -> None:
        """Advance the bar; `note` is shown beside it. `pauses`: how many blocks of `aside` are still to come."""
        now = time.monotonic()
        self.pace.advance(count, now)
        self._note = note or self._note
        if self.progress.bars is not None and self._id is not None:
            passed = f"{in_words(now - self._started)} so far"
            told = ", ".join(filter(None, (passed, self.left(pauses))))
            self.progress.bars.update(self._id, advance=count, time=told, note=printable(self._note))
        elif now - self._spoken > SPOKEN:
            self._spoken = now
            parts = (f"{self.pace.done:g} of {self.total}", self.left(pauses), self._note)
            self.progress.say(f"  {self.name}: {', '.join(filter(None, parts))}")

    def tell(self, note: str) -> None:
        """Show what is being done, or found, beside the bar."""
        self._note = note
        if self.progress.bars is not None and self._id is not None:
            self.progress.bars.update(self._id, note=printable(note))

    def left(self, pauses: int = 0) -> str:
        """Return the time left in words; empty where nothing tells yet. `pauses`: as in `advance`."""
        seconds = self.pace.left(pauses)
        return "" if seconds is None else f"about {in_words(seconds)} left"

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Run a block that is not a step, such as a validation: it does not count as a slow step."""
        started = time.monotonic()
        yield
        self.pace.pause(time.monotonic() - started)

    def close(self) -> None:
        """Remove the bar."""
        if self.progress.bars is not None and self._id is not None:
            self.progress.bars.remove_task(self._id)


class Progress:
    """Progress bars on a terminal; elsewhere, an occasional line."""

    def __init__(self, quiet: bool = False) -> None:
        # Plain lines in notebooks too, where rich would make each a separate piece of HTML.
        self.console = Console(stderr=True, quiet=quiet, soft_wrap=True, highlight=False, force_jupyter=False)
        self.bars: RichProgress | None = None
        if self.console.is_terminal and not quiet:
            self.bars = _Bars(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[time]}", markup=False),
                console=self.console,
                expand=True,
            )

    def say(self, text: str) -> None:
        """Print a line; control characters in file and class names are shown, never acted on by the terminal."""
        self.console.print(printable(text), markup=False, emoji=False)

    @contextmanager
    def live(self) -> Iterator["Progress"]:
        """Show the bars while the block runs."""
        if self.bars is None:
            yield self
            return
        with self.bars:
            yield self

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Say what is being done while the block runs, for work that cannot be counted; off a terminal, only if it is slow."""
        started = time.monotonic()
        if self.bars is None:
            yield
            if time.monotonic() - started > SPOKEN:
                self.say(f"{what} took {in_words(time.monotonic() - started)}")
            return
        bar = self.bars.add_task(printable(what), total=None, note="", time="")
        try:
            yield
        finally:
            self.bars.remove_task(bar)

    @contextmanager
    def task(self, name: str, total: int, done: int = 0, expect: float | None = None) -> Iterator[Task]:
        """Show one bar while the block runs; `done` of it were done before. `expect`: the pace (a second) of work in few large parts."""
        task = Task(self, name, total, done, expect)
        if self.bars is None:
            self.say(f"{name}: {left}" if (left := task.left()) else f"{name} ...")
        try:
            yield task
        finally:
            task.close()
