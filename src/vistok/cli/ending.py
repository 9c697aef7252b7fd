"""How a command ends: what went wrong as a sentence, an exit code, and the command to repeat."""

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

# 2 is typer's, for a command line that it cannot read.
FAILED, ALARMED, STOPPED = 1, 3, 130


def exit_code_of(command: Callable[[], object]) -> int:
    """Run a command to its end; what goes wrong is printed, a mistake of ours with its traceback.

    Returns 0, 1 after an error, 130 where the command was stopped, or what the command line itself chose: 2 for words
    that it cannot read, 3 where `train --strict` ended with alarms.
    """
    try:
        try:
            command()
            return 0
        except BaseException as error:  # a process of several has to say goodbye whatever happened
            return _told(error)
    except Stopped:  # a second time, while the first was being told
        return STOPPED


def _told(error: BaseException) -> int:
    if isinstance(error, SystemExit):  # how typer ends
        return int(error.code or 0)
    if isinstance(error, OSError):
        _drop_unwritten_output()
    if isinstance(error, BrokenPipeError):  # the reader of our output is gone, and wants to hear no more
        return FAILED
    if isinstance(error, Stopped):
        _echo(f"{error}. {_repeat()}")
        return STOPPED
    sentence = _sentence(error)
    if sentence is not None:
        _echo(sentence)
    else:
        _echo("this is a fault in vistok itself; please report it with the lines that follow")
        typer.echo(printable("".join(traceback.format_exception(error))), err=True)
    return FAILED


def _sentence(error: BaseException) -> str | None:
    """Return what went wrong outside of vistok, in a sentence; None where vistok itself is at fault."""
    if isinstance(error, UserError):
        return str(error)
    if _out_of_memory(error):
        return (
            f"not enough memory ({reason(error)}). Ask for less at once (smaller images or batches; in training --set "
            "execution.micro_batch_size=N), or free some memory, and repeat the command"
        )
    return _of_the_machine(error) if isinstance(error, OSError) else None


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    of_torch = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator: can't allocate" in str(error)
    return isinstance(error, MemoryError) or of_torch


def _of_the_machine(error: OSError) -> str:
    said = error.strerror or str(error)
    file = error.filename2 or error.filename  # of a renaming the new name is the one that a user knows
    if isinstance(file, (str, bytes)):
        return f"{_final_name(os.fsdecode(file))}: {said}"
    if error.errno is None:
        return said
    return (
        f"{said}; the system does not say on which file. It happened in: {typed_command()}. Check the disks and network "
        "folders that it reads and writes, then repeat it"
    )


def _final_name(name: str) -> str:
    """Return the name of a file that was being written under a temporary one."""
    return re.sub(rf"\.[0-9a-f]{{12}}{re.escape(PARTIAL)}(?=/|$)", "", name)


def _repeat() -> str:
    if "RANK" in os.environ:  # torchrun's own words are not known here
        return "Repeat the torchrun command to go on"
    return f"Repeat the command to go on: {typed_command()}"


def typed_command() -> str:
    """Return the command as it was typed, as far as Python knows, quoted for a shell."""
    if Path(sys.argv[0]).name == "__main__.py":
        return shlex.join(sys.orig_argv)
    name = Path(sys.argv[0]).name
    found = shutil.which(name)
    on_the_path = found is not None and os.path.realpath(found) == os.path.realpath(sys.argv[0])
    return shlex.join([name if on_the_path else sys.argv[0], *sys.argv[1:]])


def _echo(sentence: str) -> None:
    rank = os.environ.get("RANK", "0")
    name = "vistok" if rank == "0" else f"vistok (process {rank})"
    typer.echo(printable(f"{name}: {sentence}"), err=True)


def _drop_unwritten_output() -> None:
    """Forget output that nobody can take, or Python complains of it once more at its end."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
