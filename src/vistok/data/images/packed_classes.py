"""The classes of packed files: one numbering for all files, whether their labels are numbers or names."""

from collections.abc import Sequence

import numpy as np

from vistok.data.images.packed_files import Packed
from vistok.errors import UserError, has_or_have, some

# Labels are numbers 0...classes-1. A very large one is an id of something else, and would create that many classes.
MOST_CLASSES = 1_000_000
FEW_CLASSES = 10_000
MOST_CLASSES_PER_IMAGE = 100


def class_names(files: Sequence[Packed], what: str) -> tuple[str, ...]:
    """Return the classes of these files; without any labels, there is one class, "all".

    If all files list the same names, their order is kept; otherwise the names are sorted. what: the data set, for
    messages. Raises UserError if labels are not class numbers.
    """
    if not any(packed.labelled for packed in files):
        return ("all",)
    named = {packed.class_names for packed in files if packed.class_names}
    bare = [packed.name for packed in files if packed.labelled and not packed.class_names]
    if bare and (len(named) > 1 or any(packed.by_name for packed in files)):
        raise UserError(
            f"{what}: {bare[0]} has numbers as labels, but other files have names; use the same kind of labels in all files"
        )
    if named:
        return _limited(named.pop() if len(named) == 1 else tuple(sorted(set().union(*named))), what)
    highest = max((int(packed.labels.max(initial=0)) for packed in files), default=0)
    images = sum(len(packed) for packed in files)
    if highest >= min(MOST_CLASSES, max(FEW_CLASSES, MOST_CLASSES_PER_IMAGE * images)):
        worst = max(files, key=lambda packed: int(packed.labels.max(initial=0)))
        (image,) = worst.called(int(worst.labels.argmax()))
        raise UserError(
            f"{what}: the label of {image} is {highest}; labels must be class numbers, counted from 0, and {images} "
            "images cannot have that many classes. Number the classes"
        )
    return ("all",) if highest == 0 else tuple(str(label) for label in range(highest + 1))


def numbered(packed: Packed, names: Sequence[str], what: str, split: str) -> np.ndarray:
    """Return the labels of a file's images as indices into `names` (int64); raises UserError if one is missing."""
    if not packed.labelled and tuple(names) == ("all",):
        return np.zeros(len(packed), dtype=np.int64)
    if not packed.class_names or packed.class_names == tuple(names) or (not packed.by_name and _unnamed(names)):
        labels = packed.labels
    else:
        number = {name: i for i, name in enumerate(names)}
        unknown = sorted(set(packed.class_names) - set(number))
        if unknown:
            raise UserError(
                f"{what}: split {split!r} has classes that train does not have: {some(unknown)} ({packed.name})"
            )
        table = np.array([*(number[name] for name in packed.class_names), -1], dtype=np.int64)
        labels = table[packed.labels]  # -1, no label, picks the last entry
    without = np.flatnonzero(labels < 0)
    if len(without):
        raise UserError(
            f"{what}: {len(without)} of {len(labels)} images in {packed.name} {has_or_have(len(without))} no label, such as "
            f"{packed.called(int(without[0]))[0]}; label all images or none"
        )
    if len(labels) and labels.max() >= len(names):
        raise UserError(
            f"{what}: labels of split {split!r} go up to {labels.max()} ({packed.called(int(labels.argmax()))[0]}), but "
            f"train has classes 0...{len(names) - 1}"
        )
    return labels


def _unnamed(names: Sequence[str]) -> bool:
    """Whether the classes have no names but their numbers."""
    return all(name == str(i) for i, name in enumerate(names))


def _limited(names: tuple[str, ...], what: str) -> tuple[str, ...]:
    if len(names) > MOST_CLASSES:
        raise UserError(
            f"{what}: labels have {len(names):,} different names; at most {MOST_CLASSES:,} classes are allowed"
        )
    return names
