"""What is where in a packed file: listed once, kept in the user's cache folder by the file's size and time of change."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vistok.errors import UserError
from vistok.files import named_error, only_one, user_cache, write_atomic

SCHEMA = 2


@dataclass(frozen=True)
class Packed:
    """The images in one file: where each begins, its bytes, its label.

    `file` holds the bytes. It need not be the user's own file, which messages call `name`. `labels` (int64) are -1
    where an image has none; `class_names` is what the file calls them, if anything, and `by_name` says that it holds
    those names in place of numbers. `labelled_by` says what the labels come from ("" where there are none), `members` what the images are called, each name ending in a null character
    (none: they are rows of a table). `ignored` counts what is neither image nor label, by suffix, `hidden` what
    is hidden; `notes` are sentences for the user, and `key` names the listing in the cache.
    """

    file: Path
    offsets: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...] = ()
    by_name: bool = False
    labelled_by: str = ""
    members: str = ""
    ignored: Mapping[str, int] = field(default_factory=dict)
    hidden: int = 0
    notes: tuple[str, ...] = ()
    name: str = ""
    key: str = ""

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def labelled(self) -> bool:
        """Whether any image has a label."""
        return int(self.labels.max(initial=-1)) >= 0

    def called(self, *places: int) -> list[str]:
        """Return what messages call the images at these places: the user's file and the member or row in it."""
        members = self.members.split("\0") if self.members else None
        return [f"{self.name}: {members[place] if members else f'row {place}'}" for place in places]


def listed(file: Path, name: str, options: str, make: Callable[[], Packed]) -> Packed:
    """Return what `make` lists of a file, from the user's cache where the file has not changed since.

    name: what messages call the file. options: what else decides the listing. An error of the machine names the file.
    """
    try:
        stamp = file.stat()
        text = f"{SCHEMA} {file.resolve()} {stamp.st_size} {stamp.st_mtime_ns} {options}"
        key = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:24]
        place = user_cache() / "packed" / f"{key}.npz"
        found = _listing(place)
        if found is None:
            with alone(place):
                found = _listing(place)
                if found is None:
                    found = make()
                    _keep(found, place)
    except OSError as error:
        raise named_error(file, error) from None
    return replace(found, name=name, key=key)


@contextmanager
def alone(place: Path) -> Iterator[None]:
    """Let one process at a time make a file of the cache; where the cache cannot be written, each makes its own."""
    with ExitStack() as stack:
        with suppress(OSError):
            stack.enter_context(only_one(place))
        yield


def load_arrays(place: Path) -> dict[str, np.ndarray] | None:
    """Return the arrays that `keep_arrays` left in a file of the cache, or None: then they are made again."""
    try:
        with np.load(place, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, SyntaxError, zipfile.BadZipFile):
        return None


def keep_arrays(place: Path, **arrays: np.ndarray) -> None:
    """Keep arrays in a file of the cache. On a full disk they are not kept, and are made again the next time."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    with suppress(OSError, UserError):
        write_atomic(place, buffer.getvalue())


def _listing(place: Path) -> Packed | None:
    arrays = load_arrays(place)
    if arrays is None:
        return None
    try:
        about = json.loads(str(arrays["about"]))
        packed = Packed(
            file=Path(about["file"]),
            offsets=arrays["offsets"],
            sizes=arrays["sizes"],
            labels=arrays["labels"],
            class_names=tuple(about["class_names"]),
            by_name=about["by_name"],
            labelled_by=about["labelled_by"],
            members=arrays["members"].tobytes().decode(errors="surrogateescape"),
            ignored=about["ignored"],
            hidden=about["hidden"],
            notes=tuple(about["notes"]),
        )
        end = int((packed.offsets + packed.sizes).max(initial=0))
        return packed if packed.file.stat().st_size >= end else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _keep(packed: Packed, place: Path) -> None:
    about = {
        "file": str(packed.file),
        "class_names": packed.class_names,
        "by_name": packed.by_name,
        "labelled_by": packed.labelled_by,
        "ignored": dict(packed.ignored),
        "hidden": packed.hidden,
        "notes": packed.notes,
    }
    keep_arrays(
        place,
        about=np.array(json.dumps(about)),
        offsets=packed.offsets,
        sizes=packed.sizes,
        labels=packed.labels,
        members=np.frombuffer(packed.members.encode(errors="surrogateescape"), dtype=np.uint8),
    )
