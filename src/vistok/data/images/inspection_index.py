"""The facts found by inspecting image files, kept in the user's cache folder by each file's size and mtime.

Stored in columns, as there may be millions of files.
"""

import fcntl
import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vistok.errors import UserError
from vistok.files import replacing, user_cache

SCHEMA = 3
SAVE_EVERY = 50_000  # new files: an inspection of an hour that is stopped resumes about where it was


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file's SHA-256, what is unusual about it, or why it cannot be read (then "" and nothing unusual); its size."""

    digest: str
    unusual: tuple[str, ...] = ()
    problem: str | None = None
    size: int = -1


class Index:
    """Facts about files by name, each with its stamp (size, last change in ns)."""

    def __init__(self, place: Path | None) -> None:
        """`place`: the file to read and write; with None, nothing is stored."""
        self._place, self._unsaved = place, 0
        self._rows: dict[str, int] = {}
        self._kinds: list[tuple[str, ...]] = [()]
        self._columns = _Columns.empty()
        self._added: list[tuple[Sequence[int], bytes, int]] = []
        if place is not None:
            self._read(place)

    def known(self, names: Sequence[str], stamps: np.ndarray) -> dict[str, FileFacts]:
        """Return the facts about files whose stamp is still that of their last inspection; `stamps`: (count, 2)."""
        columns = self._columns
        rows = np.fromiter((self._rows.get(name, -1) for name in names), dtype=np.int64, count=len(names))
        there = np.flatnonzero(rows >= 0)
        same = there[(columns.stamps[rows[there]] == stamps[there]).all(1)]
        digests = columns.digests[rows[same]].tobytes().hex()
        kinds, sizes = columns.kinds[rows[same]].tolist(), stamps[same, 0].tolist()
        return {
            names[i]: FileFacts(digests[64 * at : 64 * at + 64], self._kinds[kinds[at]], None, sizes[at])
            for at, i in enumerate(same.tolist())
        }

    def add(self, name: str, stamp: Sequence[int], facts: FileFacts) -> None:
        """Add the facts about a file, and save from time to time."""
        if facts.unusual not in self._kinds:
            self._kinds.append(facts.unusual)
        self._rows[name] = len(self._columns.stamps) + len(self._added)
        self._added.append((stamp, bytes.fromhex(facts.digest), self._kinds.index(facts.unusual)))
        self._unsaved += 1
        if self._unsaved >= SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Write what is new; if the disk is full or read-only, the next run inspects the files again."""
        self._columns = self._columns.joined(self._added)
        self._added = []
        if self._place is None or not self._unsaved:
            return
        rows = np.fromiter(self._rows.values(), dtype=np.int64, count=len(self._rows))
        with suppress(OSError, UserError), replacing(self._place) as file:
            np.savez(
                file,
                names=np.frombuffer("\0".join(self._rows).encode(errors="surrogateescape"), dtype=np.uint8),
                stamps=self._columns.stamps[rows],
                digests=self._columns.digests[rows],
                kinds=self._columns.kinds[rows],
                words=np.frombuffer(json.dumps(self._kinds).encode(), dtype=np.uint8),
            )
        self._unsaved = 0

    def _read(self, place: Path) -> None:
        try:
            with place.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                names = arrays["names"].tobytes().decode(errors="surrogateescape").split("\0")
                words = [tuple(str(word) for word in kinds) for kinds in json.loads(arrays["words"].tobytes())]
                columns = _Columns(arrays["stamps"], arrays["digests"], arrays["kinds"])
        except (OSError, ValueError, TypeError, KeyError, EOFError, RecursionError, zipfile.BadZipFile):
            return  # absent or damaged: costs only the time of another inspection
        if columns.fit(len(names), len(words)):
            self._rows = {name: row for row, name in enumerate(names)}
            self._kinds, self._columns = words, columns


@dataclass(frozen=True)
class _Columns:
    stamps: np.ndarray  # (count, 2), int64
    digests: np.ndarray  # (count, 32), uint8
    kinds: np.ndarray  # (count,), int64: indices into the list of unusual kinds

    @staticmethod
    def empty() -> "_Columns":
        return _Columns(np.empty((0, 2), np.int64), np.empty((0, 32), np.uint8), np.empty(0, np.int64))

    def joined(self, added: list[tuple[Sequence[int], bytes, int]]) -> "_Columns":
        if not added:
            return self
        stamps, digests, kinds = zip(*added, strict=True)
        new = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 32)
        return _Columns(
            np.concatenate([self.stamps, np.array(stamps, dtype=np.int64)]),
            np.concatenate([self.digests, new]),
            np.concatenate([self.kinds, np.array(kinds, dtype=np.int64)]),
        )

    def fit(self, num_names: int, num_kinds: int) -> bool:
        """Whether all columns have one row per name, and all kinds are known."""
        shapes = (self.stamps.shape, self.digests.shape, self.kinds.shape)
        types = (self.stamps.dtype, self.digests.dtype, self.kinds.dtype)
        return (
            shapes == ((num_names, 2), (num_names, 32), (num_names,))
            and types == (np.int64, np.uint8, np.int64)
            and 0 <= int(self.kinds.min(initial=0)) <= int(self.kinds.max(initial=0)) < num_kinds
        )


@contextmanager
def open_index(root: Path, channels: int, size: int) -> Iterator[Index]:
    """Open a folder's index, one process at a time, and save it at the end or when the inspection is stopped.

    If no cache can be kept, the index is empty and all files are inspected every time.
    """
    words = f"{SCHEMA} {root.resolve()} {channels} {size}"
    place = user_cache() / f"images-{hashlib.sha256(words.encode(errors='surrogateescape')).hexdigest()[:16]}.npz"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(place.with_suffix(".lock"), os.O_RDWR | os.O_CREAT)
    except OSError:
        yield Index(None)
        return
    try:
        with suppress(OSError):  # some network disks have no locks
            fcntl.flock(lock, fcntl.LOCK_EX)  # other processes of the same run wait, then read
        index = Index(place)
        try:
            yield index
        finally:
            index.save()
    finally:
        os.close(lock)
