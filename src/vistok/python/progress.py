"""Progress where Python runs: bars on a terminal, one piece of output that is updated in a notebook."""

import html
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from vistok.engine.log import Progress
from vistok.errors import Stopped, printable

EVERY = 0.5  # seconds between two updates of a notebook's output
LINES = 20  # the newest, that stay in sight


def progress(quiet: bool = False) -> Progress:
    """Return the progress that suits this place; `quiet` shows nothing."""
    return NotebookProgress() if in_notebook() and not quiet else Progress(quiet=quiet)


@contextmanager
def live_progress(quiet: bool = False) -> Iterator[Progress]:
    """Show progress while the block runs. A request to stop becomes an interrupt, as Python's callers expect it."""
    with progress(quiet).live() as shown:
        try:
            yield shown
        except Stopped as stopped:
            raise Interrupted(f"{stopped}. To go on, call it again with the same arguments") from None


class Interrupted(KeyboardInterrupt):
    """Work that was stopped by Ctrl-C or the notebook's stop button, and how to go on."""

    def _render_traceback_(self) -> list[str]:
        return [f"vistok: {printable(str(self))}"]


def in_notebook() -> bool:
    """Whether this process runs a notebook's cells."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


class NotebookProgress(Progress):
    """Bars and lines in one output, which is updated in place: a notebook keeps its end, not its history."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.bars: Any = _Bars(self._show)
        self.lines: list[str] = []
        self._handle: Any = None
        self._shown = time.monotonic()  # short work shows nothing

    def say(self, text: str) -> None:
        """Add a line."""
        self.lines.append(printable(text))
        self._show(at_once=True)

    @contextmanager
    def live(self) -> Iterator["Progress"]:
        """Show bars and lines while the block runs."""
        try:
            yield self
        finally:
            if self.lines or self._handle is not None:
                self._show(at_once=True)

    def _show(self, at_once: bool = False) -> None:
        now = time.monotonic()
        if not at_once and now - self._shown < EVERY:
            return
        self._shown = now
        from IPython.display import display

        content = _Shown(self.lines, self.bars.rows())
        if self._handle is None:
            self._handle = display(content, display_id=True)
        else:
            self._handle.update(content)


@dataclass(frozen=True)
class _Row:
    """A task: its name, how far it is, of how many (None where that cannot be counted), and what is told beside it."""

    name: str
    done: float
    total: float | None
    note: str

    @property
    def position(self) -> str:
        """How far it is, in words."""
        return "" if self.total is None else f"{self.done:g} of {self.total:g}"


class _Bars:
    """What a task needs of rich's bars: `add_task`, `update` and `remove_task`."""

    def __init__(self, changed: Any) -> None:
        self._changed, self._tasks, self._next = changed, dict[int, dict[str, Any]](), 0

    def add_task(self, name: str, total: float | None = None, completed: float = 0, **fields: Any) -> int:
        self._next += 1
        self._tasks[self._next] = {"name": name, "total": total, "done": completed, **fields}
        self._changed()
        return self._next

    def update(self, task: int, advance: float = 0, **fields: Any) -> None:
        found = self._tasks[task]
        found |= {**fields, "done": found["done"] + advance}
        self._changed()

    def remove_task(self, task: int) -> None:
        del self._tasks[task]

    def rows(self) -> list[_Row]:
        """Return what to show of each task."""
        return [
            _Row(
                task["name"], task["done"], task["total"], ", ".join(filter(None, (task.get("time"), task.get("note"))))
            )
            for task in self._tasks.values()
        ]


def _progress(row: _Row) -> str:
    value = "" if row.total is None else f' value="{row.done:g}" max="{max(row.total, 1):g}"'
    return f'<progress{value} style="width:12em;vertical-align:middle"></progress>'


class _Shown:
    """Lines and bars as a notebook shows them."""

    def __init__(self, lines: list[str], rows: list[_Row]) -> None:
        more = len(lines) - LINES
        self.lines = [f"({more} earlier lines are left out here)", *lines[-LINES:]] if more > 0 else list(lines)
        self.rows = rows

    def __repr__(self) -> str:
        bars = [": ".join(filter(None, (row.name, "  ".join((row.position, row.note)).strip()))) for row in self.rows]
        return "\n".join([*self.lines, *bars])

    def _repr_html_(self) -> str:
        style = "font-family:monospace;font-size:.9em;line-height:1.45;white-space:pre-wrap;overflow-wrap:anywhere"
        lines = "".join(f"<div>{html.escape(line)}</div>" for line in self.lines)
        bars = "".join(
            f"<div>{html.escape(row.name)} {_progress(row)} {row.position}  {html.escape(row.note)}</div>"
            for row in self.rows
        )
        return f'<div style="{style}">{lines}{bars}</div>'
