"""Build a folder aside and bring it to its place: what fails or is killed can be repeated, and loses nothing."""

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
    """Names of files: the `first` says what a folder is, and comes first; with the `last` it is complete."""

    first: str
    last: str


@contextmanager
def built_aside(out: Path, marks: Marks) -> Iterator[Path]:
    """Give a new folder whose files are in `out` when the block ends; on an error `out` is as it was.

    A new `out` comes into being whole. In one that is there, which is the caller's to check, files are replaced one by
    one, and others stay. Raises UserError where the disk is full, or where another process writes `out`.
    """
    out = out.resolve()
    with owned(out):
        sweep(out.parent, of=out.name)
        if not out.exists():
            with replacing_folder(out) as folder:
                yield folder
            return
        sweep(out, of=_NEW)
        # Inside, so that it is on the same disk.
        with temporary_folder(out / _NEW) as folder:
            yield folder
            _move(folder, out, marks)


_NEW = "new"


def _move(folder: Path, out: Path, marks: Marks) -> None:
    files = [file.relative_to(folder) for file in folder.rglob("*") if file.is_file()]
    # Of a folder within a folder: the outer says first what it is, and last that it is complete.
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
    """Return what lies in a folder, but for what writers leave there; of a folder that is not there nothing.

    Raises UserError for a file.
    """
    if not out.exists():
        return []
    if not out.is_dir():
        raise UserError(f"{out} is a file; give a new folder with --out")
    return [path for path in sorted(out.iterdir()) if path.name != "lock" and path.suffix != PARTIAL]


def copy_synced(source: Path, target: Path) -> None:
    """Copy a file's contents; whole or absent, also after a power cut."""
    with open(source, "rb") as read, replacing(target) as written:
        shutil.copyfileobj(read, written, 2**20)
