"""--quiet: no bars and no lines on progress; results, warnings and failures are still printed."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_quiet = False
# What a line of progress begins with that a person wants to see all the same.
KEPT = ("warning: ", "failed: ")


@contextmanager
def hushed(quiet: bool) -> Iterator[None]:
    """Show no progress while the block runs, if `quiet`."""
    global _quiet
    before, _quiet = _quiet, quiet
    try:
        yield
    finally:
        _quiet = before


def progress_of(main_process: bool) -> Any:
    """Return what shows progress; only the main process does."""
    from vistok.engine.log import Progress

    if not (_quiet and main_process):
        return Progress(quiet=not main_process)

    class Hushed(Progress):
        """No bars; of the lines, only warnings and failures."""

        def __init__(self) -> None:
            super().__init__()
            self.bars = None

        def say(self, text: str) -> None:
            if text.startswith(KEPT):
                super().say(text)

    return Hushed()
