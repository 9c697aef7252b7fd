"""Look at every file of a folder before a run: what cannot be read, is unusual, or occurs twice.

Each file is decoded once; what was found is kept in the user's cache folder, by size and time of change.
"""

import fcntl
import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vistok.data.image_file import BadImage, decode
from vistok.errors import UserError
from vistok.files import user_cache, write_atomic

SCHEMA = 1
SHOWN = 5
QUIET = 2_000  # files that are looked at without a bar of progress


@dataclass(frozen=True)
class FileFacts:
    """What a file is: digest of its bytes, what is unusual, or why it cannot be read (then "" and none)."""

    digest: str
    unusual: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True)
class FolderReport:
    """What a folder holds, for the record of a run."""

    found: int
    used: int
    skipped: dict[str, str]
    unusual: dict[str, list[str]]
    duplicates: int
    leaked: list[str]

    def record(self) -> dict[str, Any]:
        """Return counts, and names of what was skipped or converted, as JSON values."""
        kinds = {kind: {"count": len(names), "first": names[:SHOWN]} for kind, names in self.unusual.items()}
        return {**asdict(self), "unusual": kinds, "num_skipped": len(self.skipped), "leaked": self.leaked[:SHOWN]}

    def warnings(self) -> list[str]:
        """Return what a user should know before training."""
        lines = []
        if self.skipped:
            lines.append(f"{len(self.skipped)} of {self.found} images are skipped: {_first(self.skipped)}")
        for kind, names in self.unusual.items():
            lines.append(f"{len(names)} of {self.found} images are {kind} and are converted, such as {names[0]}")
        if self.duplicates:
            lines.append(f"{self.duplicates} images are copies of another one, byte for byte")
        if self.leaked:
            lines.append(
                f"{len(self.leaked)} images of val or test lie in train too, byte for byte, such as {self.leaked[0]}: "
                "scores on them are too good"
            )
        return lines


def inspect(root: Path, names: Sequence[str], channels: int, size: int) -> dict[str, FileFacts]:
    """Return the facts of every named file below `root`; files that did not change are not read again."""
    with _index(root, channels, size) as known:
        stamps = {name: _stamp(root / name) for name in names}
        new = [name for name in names if known.get(name, {}).get("stamp") != stamps[name] or stamps[name] is None]
        with warnings.catch_warnings():  # once, around all threads
            warnings.simplefilter("ignore")
            for name, facts in _looked_at(root, new, channels, size):
                known[name] = {"stamp": stamps[name], **asdict(facts)}
        return {name: _facts(known[name]) for name in names}


def usable(
    what: str, facts: Mapping[str, FileFacts], unreadable: str, unusual: str, found: int | None = None
) -> tuple[set[str], dict[str, str]]:
    """Return the names to use, and those to skip with their reasons; raises UserError where the config refuses.

    what: the data set in a message, as in "folder of images 'photos'". unreadable: "refuse" or "skip". unusual:
    "convert", "skip" or "refuse". found: how many images there are, where `facts` has only those that are not plain.
    """
    total = len(facts) if found is None else found
    bad = {name: found.problem for name, found in facts.items() if found.problem is not None}
    odd = {name: ", ".join(found.unusual) for name, found in facts.items() if found.unusual}
    if bad and unreadable == "refuse":
        raise UserError(
            f"{what}: {len(bad)} of {total} images cannot be read: {_first(bad)}. Remove or "
            "replace them, or leave them out with --set data.unreadable_images=skip"
        )
    if odd and unusual == "refuse":
        raise UserError(
            f"{what}: {len(odd)} of {total} images are unusual: {_first(odd)}. Convert them "
            "yourself, or let vistok do it with --set data.unusual_images=convert"
        )
    skipped = bad | (odd if unusual == "skip" else {})
    return set(facts) - set(skipped), dict(sorted(skipped.items()))


def report(
    facts: Mapping[str, FileFacts], splits: Mapping[str, Sequence[str]], used: set[str], skipped: dict[str, str]
) -> FolderReport:
    """Sum up a folder; `splits` says which files are train, val and test."""
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
    )


def _looked_at(root: Path, names: Sequence[str], channels: int, size: int) -> Iterator[tuple[str, FileFacts]]:
    def look(name: str) -> FileFacts:
        path = root / name
        try:
            _, unusual = decode(path, channels, size)
            return FileFacts(hashlib.sha256(path.read_bytes()).hexdigest(), unusual)
        except BadImage as error:
            return FileFacts("", (), str(error))
        except OSError as error:
            return FileFacts("", (), error.strerror or str(error))

    with ThreadPoolExecutor(os.cpu_count()) as pool, bar(len(names)) as advance:
        for name, facts in zip(names, pool.map(look, names), strict=True):
            advance()
            yield name, facts


@contextmanager
def bar(total: int) -> Iterator[Callable[[], None]]:
    """Show how many of `total` images were looked at, where they are many; gives what to call after each."""
    if total <= QUIET:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("looking at every image, once", total=total)
        yield lambda: bars.advance(task)


@contextmanager
def _index(root: Path, channels: int, size: int) -> Iterator[dict[str, Any]]:
    """Open what is known of a folder, alone; write it back. Without a place to write it is made every time."""
    key = hashlib.sha256(f"{SCHEMA} {root.resolve()} {channels} {size}".encode()).hexdigest()[:16]
    place = user_cache() / f"images-{key}.json"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(place.with_suffix(".lock"), os.O_RDWR | os.O_CREAT)
    except OSError:
        yield {}
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other processes of the same run wait, and then read
        known = _read(place)
        before = json.dumps(known)
        yield known
        after = json.dumps(known)
        if after != before:
            with suppress(OSError, UserError):  # on a full disk the next run looks again
                write_atomic(place, after.encode())
    finally:
        os.close(lock)


def _read(place: Path) -> dict[str, Any]:
    try:
        found = json.loads(place.read_text())
        for entry in found.values():
            _facts(entry)
        return dict(found)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


def _facts(entry: Mapping[str, Any]) -> FileFacts:
    return FileFacts(entry["digest"], tuple(entry["unusual"]), entry["problem"])


def _stamp(path: Path) -> list[int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _first(reasons: Mapping[str, str | None]) -> str:
    shown = [f"{name} ({reason})" for name, reason in list(sorted(reasons.items()))[:SHOWN]]
    more = f" and {len(reasons) - SHOWN} more" if len(reasons) > SHOWN else ""
    return ", ".join(shown) + more
