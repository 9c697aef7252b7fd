"""How a command ends: with an error in one sentence, an exit code, and the command to repeat."""

import errno
import os
import re
import shlex
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import typer

from vistok.errors import Stopped, UserError, printable, reason
from vistok.files import PARTIAL

# Typer uses 2, for a command line that it cannot parse.
FAILED, ALARMED, STOPPED = 1, 3, 130
# Commands that go on where they stopped.
RESUMED = ("train", "shorten", "cache", "study", "start", "demo")


def exit_code_of(command: Callable[[], object]) -> int:
    """Run a command and print its error, if any; bugs in vistok are printed with their traceback.

    Returns 0 for success, 1 after an error, 130 if the command was stopped, or an exit code chosen by the command line: 2
    if it cannot be parsed, 3 if `--strict` ended with alarms.
    """
    try:
        try:
            command()
            return 0
        except BaseException as error:  # whatever happened, a process of several must still leave its group
            return _told(error)
    except Stopped:  # stopped again while the first stop was being reported
        return STOPPED


def _told(error: BaseException) -> int:
    if isinstance(error, SystemExit):  # typer exits this way
        return int(error.code or 0)
    if isinstance(error, OSError):
        _drop_unwritten_output()
    if isinstance(error, BrokenPipeError):  # whoever read our output has gone
        return FAILED
    if isinstance(error, Stopped) or Stopped.asked:
        _echo(f"{error if isinstance(error, Stopped) else 'stopped'}. {_repeat()}")
        return STOPPED
    sentence = _sentence(error)
    if sentence is not None:
        _echo(sentence)
    else:
        _echo("this is a bug in vistok; please report it together with the following lines")
        typer.echo(printable("".join(traceback.format_exception(error))), err=True)
    return FAILED


def _sentence(error: BaseException) -> str | None:
    """Return a sentence on an error with a cause outside vistok; None for a bug in vistok."""
    if isinstance(error, UserError):
        return str(error)
    if _out_of_memory(error):
        return (
            f"not enough memory ({reason(error)}). Use smaller images or batches (for training: --set "
            "execution.micro_batch_size=N), or free some memory, then repeat the command"
        )
    return _of_the_machine(error) if isinstance(error, OSError) else None


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    of_torch = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator: can't allocate" in str(error)
    return isinstance(error, MemoryError) or of_torch


def _of_the_machine(error: OSError) -> str:
    reason = error.strerror or str(error)
    file = error.filename2 or error.filename  # when renaming fails, the user knows the new name
    if isinstance(file, (str, bytes)):
        return f"{_final_name(os.fsdecode(file))}: {reason}"
    if error.errno is None:
        return reason
    return (
        f"{reason}; the system does not say for which file. It happened in: {typed_command()}. Check the disks and network "
        "folders that this command reads and writes, then repeat it"
    )


def _final_name(name: str) -> str:
    """Return a file's final name, given the temporary name under which it was being written."""
    return re.sub(rf"\.[0-9a-f]{{12}}{re.escape(PARTIAL)}(?=/|$)", "", name)


def _repeat() -> str:
    """Return what to do after a stop; only commands that save their state on the way are said to continue."""
    verb = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    to = "To continue" if verb in RESUMED else "What was not finished is not written; to start again"
    if "RANK" in os.environ:  # the torchrun command line is not known here
        return f"{to}, repeat the torchrun command"
    return f"{to}, repeat the command: {typed_command()}"


def typed_command() -> str:
    """Return the command as typed, as far as Python knows it, quoted for a shell."""
    if Path(sys.argv[0]).name == "__main__.py":
        return shlex.join(sys.orig_argv)
    name = Path(sys.argv[0]).name
    installed = shutil.which(name)
    on_the_path = installed is not None and os.path.realpath(installed) == os.path.realpath(sys.argv[0])
    return shlex.join([name if on_the_path else sys.argv[0], *sys.argv[1:]])


def _echo(sentence: str) -> None:
    rank = os.environ.get("RANK", "0")
    name = "vistok" if rank == "0" else f"vistok (process {rank})"
    typer.echo(printable(f"{name}: {sentence}"), err=True)


def _drop_unwritten_output() -> None:
    """Discard output that cannot be written, so that Python does not complain about it again at exit."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
