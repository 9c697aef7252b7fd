"""Build a folder aside, then move it into place: a failed or killed attempt loses nothing and can be repeated."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vistok.errors import UserError
from vistok.files import PARTIAL, owned, replacing, replacing_folder, sweep, sync, temporary_folder


@dataclass(frozen=True)
class Marks:
    """Names of files: `first` identifies a folder and is moved first; `last` is moved last and marks it as complete."""

    first: str
    last: str


@contextmanager
def built_aside(out: Path, marks: Marks) -> Iterator[Path]:
    """Yield a new folder whose files are moved to `out` when the block ends; on an error `out` stays unchanged.

    A new `out` appears all at once. In an existing one, which the caller must have checked, files are replaced one by one
    and other files stay. Raises UserError where the disk is full, or where another process is writing `out`.
    """
    out = out.resolve()
    with owned(out):
        sweep(out.parent, of=out.name)
        if not out.exists():
            with replacing_folder(out) as folder:
                yield folder
            return
        sweep(out, of=_NEW)
        # Inside `out`, so that both are on the same disk.
        with temporary_folder(out / _NEW) as folder:
            yield folder
            _move(folder, out, marks)


_NEW = "new"


def _move(folder: Path, out: Path, marks: Marks) -> None:
    files = [file.relative_to(folder) for file in folder.rglob("*") if file.is_file()]
    # With a folder inside a folder, the outer one's `first` comes first of all and its `last` comes last.
    for file in sorted(files, key=lambda file: _order(file, marks)):
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        os.replace(folder / file, out / file)
    for place in {(out / file).parent for file in files}:
        sync(place)


def _order(file: Path, marks: Marks) -> tuple[int, int, str]:
    depth = len(file.parts)
    if file.name == marks.first:
        return 0, depth, str(file)
    if file.name == marks.last:
        return 2, -depth, str(file)
    return 1, depth, str(file)


def entries(out: Path) -> list[Path]:
    """Return the contents of a folder without locks and unfinished files; empty where the folder does not exist.

    Raises UserError where `out` is a file.
    """
    if not out.exists():
        return []
    if not out.is_dir():
        raise UserError(f"{out} is a file; give a new folder with --out")
    return [path for path in sorted(out.iterdir()) if path.name != "lock" and path.suffix != PARTIAL]


def copy_synced(source: Path, target: Path) -> None:
    """Copy a file's contents; even after a power cut, the copy is either whole or absent."""
    with open(source, "rb") as read, replacing(target) as written:
        shutil.copyfileobj(read, written, 2**20)
