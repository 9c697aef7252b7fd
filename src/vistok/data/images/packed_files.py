"""The listing of a packed file, made once and kept in the user's cache folder by the file's place, size and last change."""

import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vistok.errors import UserError
from vistok.files import alone, named_error, stamp_of, user_cache, write_atomic

SCHEMA = 2


@dataclass(frozen=True)
class Packed:
    """The images in one file: the offset, size in bytes and label of each.

    `file` holds the bytes. It need not be the user's file, which messages call `name`. `labels` (int64) are -1 for
    images without one; `class_names` are the file's names for them, if any, and `by_name` says that its labels are
    those names rather than numbers. `labelled_by` says where the labels come from ("" if there are none). `members`
    holds the images' names, each ending in a null character ("" if they are rows of a table). `ignored` counts, by
    suffix, what is neither image nor label, `hidden` what is hidden; `notes` are sentences for the user, and `key`
    names the listing in the cache.
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
        """Return names for the images at these indices, for messages: the user's file and the member or row in it."""
        members = self.members.split("\0") if self.members else None
        return [f"{self.name}: {members[place] if members else f'row {place}'}" for place in places]


def listed(file: Path, name: str, options: str, make: Callable[[], Packed]) -> Packed:
    """Return the listing that `make` makes of a file, from the user's cache if the file has not changed since.

    name: the file's name in messages. options: whatever else determines the listing. An OSError names the file.
    """
    try:
        key = key_of(file, f"{SCHEMA} {options}")
        place = user_cache() / "packed" / f"{key}.npz"
        packed = _listing(place)
        if packed is None:
            with alone(place):
                packed = _listing(place)
                if packed is None:
                    packed = make()
                    _keep(packed, place)
    except OSError as error:
        raise named_error(file, error) from None
    return replace(packed, name=name, key=key)


def key_of(file: Path, text: str = "") -> str:
    """Return a name for what is made of a file as it is now, and of a text. Raises OSError if the file cannot be examined."""
    text = f"{file.resolve()} {stamp_of(file)} {text}"
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:24]


def load_arrays(place: Path) -> dict[str, np.ndarray] | None:
    """Return the arrays that `keep_arrays` stored in a cached file, or None, if they have to be made again."""
    try:
        with np.load(place, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, SyntaxError, zipfile.BadZipFile):
        return None


def keep_arrays(place: Path, **arrays: np.ndarray) -> None:
    """Store arrays in a cached file. On a full disk they are not stored, and are made again next time."""
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
