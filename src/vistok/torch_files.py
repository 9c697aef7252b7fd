"""Recognising files saved by others from their first bytes and archive listing; nothing in them is loaded or run."""

import errno
import zipfile
from pathlib import Path

from vistok.errors import UserError

ZIP = b"PK\x03\x04"


def first_bytes(path: Path, count: int = 16) -> bytes:
    """Return the first bytes of a file."""
    with open(path, "rb") as file:
        return file.read(count)


def is_pickled(path: Path) -> bool:
    """Return whether a file begins as torch.save's do: with a zip archive, or a pickle of protocol 2 or higher.

    A safetensors file begins with the length of its header, whose first byte may be the same, but a brace follows.
    """
    start = first_bytes(path)
    return start.startswith((ZIP, b"\x80")) and start[8:9] != b"{"


def refuse_program(path: Path, what: str) -> None:
    """Raise UserError for a TorchScript archive, which holds a program as well as weights.

    torch.load hands such a file to torch.jit.load, which runs its code. Recognised generously: by constants.pkl, a
    folder `code`, or any Python source, anywhere in the archive.
    """
    if not path.is_file() or first_bytes(path, 4) != ZIP:
        return
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception as error:  # a damaged listing raises almost anything
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise UserError(f"{what} {path}: an archive whose list of contents cannot be read; download it again") from None
    # torch ignores case in the names of parts.
    if any(_is_program(name.lower()) for name in names):
        raise UserError(
            f"{what} {path}: a TorchScript archive, which holds a program that loading it would run. If you trust it, load it "
            "with torch.jit.load, save its state_dict() with torch.save, and give that file instead"
        )


def _is_program(name: str) -> bool:
    folders, _, last = name.rpartition("/")
    # The top folder is named after the file, which may itself be called code.pt.
    return last == "constants.pkl" or name.endswith((".py", ".py.debug_pkl")) or "code" in folders.split("/")[1:]
