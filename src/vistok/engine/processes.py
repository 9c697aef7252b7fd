"""Processes that do a part of a command's work: how they start, how they end, and what is said when they fail."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from vistok.engine.processors import THREAD_VARIABLES, without_choice
from vistok.engine.spinning import bounds
from vistok.errors import Stopped, UserError

TAIL = 12  # lines of a log that are shown after a failure


def environment(threads: int | None) -> dict[str, str]:
    """Return a process's environment: spinning bounded, and the number of threads set for every library.

    Without a number, the process chooses anew where this one chose its own.
    """
    own = {**without_choice(os.environ), **bounds(os.environ)}  # a Ray worker was not started by vistok
    return own if threads is None else {**own, **dict.fromkeys(THREAD_VARIABLES, str(threads))}


def start(module: str, arguments: Sequence[str], log: Path, threads: int | None) -> "subprocess.Popen[bytes]":
    """Start a module as a process, whose output is appended to a log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment(threads),
        )  # fmt: skip


def outcome(log: Path, code: int) -> str | None:
    """Return None for success, else the exit code and the end of the log."""
    if code == 0:
        return None
    lines = log.read_text(errors="replace").strip().splitlines()[-TAIL:]
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return "\n".join([f"{how}; log: {log}", *lines])


def perform(work: Callable[[], object]) -> None:
    """Do a process's work: exits with code 1 and a sentence after a user error, with 130 if stopped."""

    def stop(number: int, frame: object) -> None:
        raise Stopped("stopped")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    _end_with_parent()
    try:
        work()
    except UserError as error:
        sys.exit(f"vistok: {error}")
    except Stopped as stopped:
        sys.stderr.write(f"vistok: {stopped}\n")
        sys.exit(130)
    except OSError as error:
        sys.exit(f"vistok: {error.filename or 'a file'}: {error.strerror or error}")


def _end_with_parent() -> None:
    """Ask the kernel (Linux) for a SIGTERM when the parent dies, since an orphan would keep its run locked."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)
