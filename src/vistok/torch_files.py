"""Files that others saved, told by their first bytes and their list of parts; nothing in them is read or run."""

import errno
import zipfile
from pathlib import Path

from vistok.errors import UserError

ZIP = b"PK\x03\x04"


def first_bytes(path: Path, count: int = 16) -> bytes:
    """Return how a file begins."""
    with open(path, "rb") as file:
        return file.read(count)


def is_pickled(path: Path) -> bool:
    """Return whether a file begins like those of torch.save: a zip archive, or a pickle of protocol 2 and up.

    A safetensors file begins with the length of its header, whose first byte may be the same, and the header with a brace.
    """
    start = first_bytes(path)
    return start.startswith((ZIP, b"\x80")) and start[8:9] != b"{"


def refuse_program(path: Path, what: str) -> None:
    """Raise UserError for a TorchScript archive, which holds a program beside its weights.

    torch.load hands such a file to torch.jit.load, which runs what it finds. Told generously: by constants.pkl, by a
    folder `code`, or by any Python source, wherever in the archive they lie.
    """
    if not path.is_file() or first_bytes(path, 4) != ZIP:
        return
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception as error:  # a damaged list of parts raises many kinds
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise UserError(f"{what} {path}: an archive whose list of parts cannot be read; download it again") from None
    # torch finds parts in any capitals.
    if any(_is_program(name.lower()) for name in names):
        raise UserError(
            f"{what} {path}: a TorchScript archive, which holds a program, and loading it would run that. Load it with "
            "torch.jit.load where you trust it, save its state_dict() with torch.save, and give that file"
        )


def _is_program(name: str) -> bool:
    folders, _, last = name.rpartition("/")
    # The top folder is named after the file, which may itself be called code.pt.
    return last == "constants.pkl" or name.endswith((".py", ".py.debug_pkl")) or "code" in folders.split("/")[1:]
