"""Inspect every file of a folder before a run: what cannot be read, is unusual, or occurs twice.

Each file is decoded once; the facts are kept in the user's cache folder, by size and mtime.
"""

import errno
import hashlib
import io
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vistok.data.images.image_file import BadImage, decode, file_bytes, not_read
from vistok.data.images.inspection_index import FileFacts, open_index
from vistok.errors import UserError, are, counted, reason, some
from vistok.files import stamp_of

SHOWN = 5
QUIET = 2_000  # up to this many files are inspected without a progress bar
_AT_ONCE = 1_000  # files queued for the threads at a time
# Errors of the folder's contents, not of its disk or network: dangling or circular links, files without permission.
OF_THE_FOLDER = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM)
_DESCRIPTIONS = {
    "damaged EXIF": (
        "has damaged EXIF data and is taken to be upright",
        "have damaged EXIF data and are taken to be upright",
    ),
    "transparent": ("is transparent and is put on white", "are transparent and are put on white"),
    "animated": ("is animated and is reduced to its first frame", "are animated and are reduced to their first frames"),
    "rotated": ("is rotated and is turned upright", "are rotated and are turned upright"),
    "unreadable metadata": (
        "has metadata that cannot be read and is ignored",
        "have metadata that cannot be read and is ignored",
    ),
}


@dataclass(frozen=True)
class FolderReport:
    """The contents of a folder, for the record of a run.

    found: all images. used: those that are in a split and can be used. ignored: number of files that are not images, by
    suffix. hidden: number of files and folders that are hidden or were left by the operating system. runs: folders of runs, left out.
    """

    found: int
    used: int
    skipped: dict[str, str]
    unusual: dict[str, list[str]]
    duplicates: int
    leaked: list[str]
    ignored: Mapping[str, int] = field(default_factory=dict)
    hidden: int = 0
    runs: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """Return counts, and the names of skipped or converted files, as JSON values."""
        kinds = {kind: {"count": len(names), "first": names[:SHOWN]} for kind, names in self.unusual.items()}
        return {**asdict(self), "unusual": kinds, "num_skipped": len(self.skipped), "leaked": self.leaked[:SHOWN]}

    def warnings(self) -> list[str]:
        """Return what a user should know before training."""
        lines = []
        if self.skipped:
            lines.append(f"{_of(self.skipped, self.found)} {are(len(self.skipped))} skipped: {_first(self.skipped)}")
        lines += self.remarks()
        if self.ignored:
            lines.append(describe_ignored(self.ignored))
        if self.runs:
            lines.append(
                f"left out {some(self.runs, SHOWN)}: vistok's runs are there, whose sheets are not pictures to learn from"
            )
        return lines

    def remarks(self) -> list[str]:
        """Return what is unusual about the pictures that are used: those to convert, and copies."""
        lines = []
        for kind, names in self.unusual.items():
            one, more = _DESCRIPTIONS.get(
                kind, (f"is {kind} and will be converted", f"are {kind} and will be converted")
            )
            lines.append(f"{_of(names, self.found)} {one if len(names) == 1 else more}, such as {names[0]}")
        if self.duplicates:
            copies = "a byte-for-byte copy of another" if self.duplicates == 1 else "byte-for-byte copies of others"
            lines.append(f"{counted(self.duplicates, 'image')} {are(self.duplicates)} {copies}")
        if self.leaked:
            lines.append(
                f"{counted(len(self.leaked), 'image')} of val or test {are(len(self.leaked))} in train too, byte for byte, such as "
                f"{self.leaked[0]}: "
                "scores on them are too optimistic"
            )
        return lines


def describe_ignored(ignored: Mapping[str, int]) -> str:
    """Return "ignored 3 files: 2 .txt, 1 .csv"; the most frequent suffixes first."""
    counts = sorted(ignored.items(), key=lambda item: (-item[1], item[0]))
    shown = some((f"{count:,} {suffix}" for suffix, count in counts), SHOWN)
    total = sum(ignored.values())
    return f"ignored {counted(total, 'file')}: {shown}"


def _of(part: Sized, total: int) -> str:
    return f"{len(part):,} of {counted(total, 'image')}"


def inspect(root: Path, names: Sequence[str], channels: int, size: int) -> dict[str, FileFacts]:
    """Return the facts about every named file below `root`; files that have not changed are not read again.

    Files that could not be read are tried again every time: it costs little, and the obstacle may be gone. Raises
    UserError naming the file if the machine fails, as that says nothing about the image.
    """
    stamps = _stamps(root, names)
    with open_index(root, channels, size) as index:
        known = index.known(names, stamps)
        new = [i for i, name in enumerate(names) if name not in known]
        with warnings.catch_warnings():  # once, around all threads
            warnings.simplefilter("ignore")
            for i, facts in zip(new, _looked_at(root, [names[i] for i in new], channels, size), strict=True):
                known[names[i]] = facts
                if facts.problem is None and stamps[i, 0] >= 0:
                    index.add(names[i], stamps[i].tolist(), facts)
    return {name: known[name] for name in names}


def usable(
    what: str, facts: Mapping[str, FileFacts], unreadable: str, unusual: str, found: int | None = None
) -> tuple[set[str], dict[str, str]]:
    """Return the names to use, and those to skip with reasons; raises UserError if the config refuses images.

    what: the data set, for messages, as in "folder of images 'photos'". unreadable: "refuse" or "skip". unusual:
    "convert", "skip" or "refuse". found: the number of images, if `facts` only has the unusual and unreadable ones.
    """
    total = len(facts) if found is None else found
    bad = {name: file.problem for name, file in facts.items() if file.problem is not None}
    odd = {name: ", ".join(file.unusual) for name, file in facts.items() if file.unusual}
    if bad and unreadable == "refuse":
        raise UserError(
            f"{what}: {_of(bad, total)} cannot be read: {_first(bad)}. Remove or "
            "replace them, or leave them out with --set data.unreadable_images=skip"
        )
    if odd and unusual == "refuse":
        raise UserError(
            f"{what}: {_of(odd, total)} {are(len(odd))} unusual: {_first(odd)}. Convert them "
            "yourself, or let vistok do it with --set data.unusual_images=convert"
        )
    skipped = bad | (odd if unusual == "skip" else {})
    return set(facts) - set(skipped), dict(sorted(skipped.items()))


def report(
    facts: Mapping[str, FileFacts],
    splits: Mapping[str, Sequence[str]],
    used: set[str],
    skipped: dict[str, str],
    ignored: Mapping[str, int] | None = None,
    hidden: int = 0,
    runs: Sequence[str] = (),
) -> FolderReport:
    """Summarise a folder; `splits` says which files are train, val and test."""
    used = used & {name for files in splits.values() for name in files}
    unusual: dict[str, list[str]] = {}
    for name in sorted(used):
        for kind in facts[name].unusual:
            unusual.setdefault(kind, []).append(name)
    copies = Counter(facts[name].digest for name in used)
    train = {facts[name].digest for name in splits.get("train", ()) if name in used}
    held_out = [name for split in ("val", "test") for name in splits.get(split, ()) if name in used]
    return FolderReport(
        found=len(facts),
        used=len(used),
        skipped=skipped,
        unusual=unusual,
        duplicates=sum(count - 1 for count in copies.values()),
        leaked=[name for name in held_out if facts[name].digest in train],
        ignored=dict(ignored or {}),
        hidden=hidden,
        runs=tuple(runs),
    )


def _looked_at(root: Path, names: Sequence[str], channels: int, size: int) -> Iterator[FileFacts]:
    def look(name: str) -> FileFacts:
        path = root / name
        try:
            data = file_bytes(path)
            _, unusual = decode(io.BytesIO(data), channels, size)
            return FileFacts(hashlib.sha256(data).hexdigest(), unusual, None, len(data))
        except BadImage as error:
            return FileFacts("", (), str(error))
        except OSError as error:
            return FileFacts("", (), problem_of(path, error))

    with ThreadPoolExecutor(os.cpu_count()) as pool, bar(len(names)) as advance:
        for start in range(0, len(names), _AT_ONCE):
            for facts in pool.map(look, names[start : start + _AT_ONCE]):
                advance()
                yield facts


def problem_of(path: Path, error: OSError, what: str = "image") -> str:
    """Return why a file or folder cannot be read; raises UserError if the machine failed, as it may be fine."""
    if error.errno not in OF_THE_FOLDER:
        raise not_read(path, error, what) from None
    return error.strerror or reason(error)


@contextmanager
def bar(total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar if `total` images are many; yields the function to call after each image."""
    if total <= QUIET:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    # In a notebook, rich's bars need a package that may be missing.
    with Progress(console=Console(stderr=True, force_jupyter=False), transient=True) as bars:
        task = bars.add_task("inspecting every image, once", total=total)
        yield lambda: bars.advance(task)


def _stamps(root: Path, names: Sequence[str]) -> np.ndarray:
    """Return size and last change (ns) of each file, (count, 2); -1 if it cannot be examined."""
    stamps = np.full((len(names), 2), -1, dtype=np.int64)
    for i, name in enumerate(names):
        try:
            stamps[i] = stamp_of(f"{root}{os.sep}{name}")
        except OSError:  # the inspection will find out why
            continue
    return stamps


def _first(reasons: Mapping[str, str | None]) -> str:
    return some((f"{name} ({reason})" for name, reason in sorted(reasons.items())), SHOWN)
