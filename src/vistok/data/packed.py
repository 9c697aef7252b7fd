"""Images that lie packed in a few large files, read by place: the same index gives the same image, in any order.

What is where is listed once for each file and kept in the user's cache folder, by its size and time of change.
"""

import hashlib
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vistok.data.config import DataConfig
from vistok.data.image_file import BadImage, decode
from vistok.data.sources import ImageSource
from vistok.errors import UserError
from vistok.files import only_one, user_cache, write_atomic
from vistok.rng import numpy_generator

SCHEMA = 1
# Of a set without val or test shards, so many images are held out, and never more than a tenth.
HELD_OUT = 10_000
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Packed:
    """The images in one file: where each begins, its bytes, its label; `class_names` where the file has them."""

    file: Path
    offsets: np.ndarray
    sizes: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...] = ()


class PackedSource(ImageSource):
    """Images in files, by place. Raises UserError naming the file and the place of one that cannot be read."""

    def __init__(
        self, files: Sequence[Packed], where: np.ndarray, class_names: Sequence[str], config: DataConfig, digest: str
    ) -> None:
        """`where`: (count, 2), the number of a file and of an image in it."""
        self.files, self.where, self.config = list(files), where, config
        self.class_names, self.digest = tuple(class_names), digest
        self.labels = np.array([files[f].labels[i] for f, i in where], dtype=np.int64)

    def read(self, index: int) -> np.ndarray:
        """Return one image as uint8 (height, width, channels)."""
        number, place = self.where[index]
        packed = self.files[number]
        try:
            with packed.file.open("rb") as file:
                file.seek(int(packed.offsets[place]))
                data = file.read(int(packed.sizes[place]))
            return decode(io.BytesIO(data), self.config.channels, self.config.image_size)[0]
        except (BadImage, OSError) as error:
            raise UserError(f"image {place} of {packed.file}: cannot be read ({error}); write the file again") from None

    def subset(self, indices: np.ndarray, name: str) -> "PackedSource":
        """Return the images at `indices` as a source of their own."""
        return PackedSource(self.files, self.where[indices], self.class_names, self.config, f"{self.digest}/{name}")


def open_packed(names: Sequence[str], read: Callable[[str], Packed], config: DataConfig, split: str) -> PackedSource:
    """Return a split of packed files; `read` lists one of them. Splits are told by words in the files' names.

    Files of one held-out kind alone, with labels, are `test`, whatever their name: what others score against (the
    validation files of ImageNet, whose test files have no labels). What is missing then is held out of train.
    Raises UserError where a split is empty.
    """
    by_split: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for name in sorted(names):
        by_split[_split_of(name)].append(name)
    if by_split["val"] and not any(read(name).labels.max(initial=-1) >= 0 for name in by_split["test"]):
        by_split["test"], by_split["val"] = by_split["val"], []
    given = by_split[split]
    held_out = [missing for missing in ("test", "val") if not by_split[missing]]
    files = [read(name) for name in (given or by_split["train"])]
    labels = np.concatenate([packed.labels for packed in files]) if files else np.empty(0, dtype=np.int64)
    if not len(labels):
        raise UserError(
            f"data {config.root!r}: no image of split {split!r} in {len(names)} files; a file belongs to the split that its "
            "name says, or that its folder is named (train, val, test; train where neither does)"
        )
    # Labels of val and test are those of train, where there is train.
    known = files if split == "train" or not by_split["train"] else [read(name) for name in by_split["train"]]
    class_names = _class_names(known)
    if labels.min() < 0 or labels.max() >= len(class_names):
        raise UserError(
            f"data {config.root!r}: labels of split {split!r} are {labels.min()}...{labels.max()}, train has classes "
            f"0...{len(class_names) - 1}"
        )
    where = np.array([(f, i) for f, packed in enumerate(files) for i in range(len(packed.labels))], dtype=np.int64)
    source = PackedSource(files, where, class_names, config, _digest(files))
    if split in held_out or (split == "train" and held_out):
        return _hold_out(source, split, held_out)
    return source


def _hold_out(source: PackedSource, split: str, held_out: list[str]) -> PackedSource:
    count = min(HELD_OUT, max(1, len(source) // 10))
    order = numpy_generator(0, "packed-held-out").permutation(len(source))
    parts = {name: np.sort(order[i * count : (i + 1) * count]) for i, name in enumerate(held_out)}
    parts["train"] = np.sort(order[len(held_out) * count :])
    if not len(parts[split]):
        raise UserError(f"data {source.config.root!r}: {len(source)} images are too few for three splits")
    return source.subset(parts[split], split)


def _split_of(name: str) -> str:
    *_, folder, file = ["", *name.lower().split("/")]
    words = [*re.split(r"[^a-z]+", file), folder]
    return next((_SPLITS[word] for word in words if word in _SPLITS), "train")


def _class_names(files: Sequence[Packed]) -> tuple[str, ...]:
    named = next((packed.class_names for packed in files if packed.class_names), ())
    highest = max(int(packed.labels.max(initial=0)) for packed in files)
    if named:
        return named
    return ("all",) if highest == 0 else tuple(str(label) for label in range(highest + 1))


def _digest(files: Sequence[Packed]) -> str:
    """Return a digest of what the files list: sizes and labels of all images, in order."""
    digest = hashlib.sha256()
    for packed in files:
        for array in (packed.sizes, packed.labels):
            digest.update(array.astype(np.int64).tobytes())
    return f"packed-{digest.hexdigest()}"


def listed(file: Path, make: Callable[[], Packed]) -> Packed:
    """Return what `make` lists of a file, from the user's cache where the file has not changed since."""
    stamp = file.stat()
    key = f"{SCHEMA} {file.resolve()} {stamp.st_size} {stamp.st_mtime_ns}"
    place = user_cache() / "packed" / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"
    found = _listing(place)
    if found is None:
        with only_one(place):
            found = _listing(place)
            if found is None:
                found = make()
                _keep(found, place)
    return found


def _listing(place: Path) -> Packed | None:
    try:
        with np.load(place, allow_pickle=False) as found:
            names = tuple(str(name) for name in found["class_names"])
            packed = Packed(Path(str(found["path"])), found["offsets"], found["sizes"], found["labels"], names)
    except (OSError, ValueError, KeyError, EOFError):
        return None
    return packed if packed.file.is_file() else None


def _keep(packed: Packed, place: Path) -> None:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        path=np.array(str(packed.file)),
        offsets=packed.offsets,
        sizes=packed.sizes,
        labels=packed.labels,
        class_names=np.array(packed.class_names, dtype=np.str_),
    )
    write_atomic(place, buffer.getvalue())
