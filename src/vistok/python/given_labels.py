"""Labels as Python holds them: class numbers or names, in lists, arrays, tensors and columns of tables."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from vistok.errors import UserError, nearest, some

SHOWN = 10


def label_list(labels: Any, count: int) -> list[Any]:
    """Return one label for each of `count` images. Raises UserError if there are more or fewer, or labels of another shape."""
    values = (
        labels.detach().cpu().numpy()
        if isinstance(labels, Tensor)
        else np.asarray(labels, None if isinstance(labels, np.ndarray) else object)
    )
    if values.ndim == 2 and values.shape[1] > 1:
        raise UserError(
            f"labels have the shape {values.shape}; wanted one class a picture: labels.argmax(1) if these are one-hot or scores"
        )
    if values.ndim == 0 or values.size != len(values):
        raise UserError(f"labels have the shape {values.shape}; wanted one class number or name for each picture")
    if len(values) != count:
        raise UserError(f"{count:,} images but {len(values):,} labels; give one label for each image")
    return list(values.ravel().tolist())


def class_numbers(labels: Sequence[Any], classes: Sequence[str] | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return class numbers (count,), int64, and the names of the classes by number; no names where there are no labels.

    `classes`: the names, in the order of the numbers, if the user gave them. Names without an order are sorted. Numbers
    without names are named by themselves, and if some are missing in between, the classes are numbered anew. Raises
    UserError for labels that are neither whole numbers nor names, for unknown ones, and for images without one.
    """
    if all(label is None for label in labels):
        return np.zeros(len(labels), dtype=np.int64), ()
    plain = [_plain(label, number) for number, label in enumerate(labels)]
    numbers = [label for label in plain if isinstance(label, int)]
    texts = [label for label in plain if isinstance(label, str)]
    if numbers and texts:
        raise UserError("labels: some are names and some are numbers; give one kind")
    names = _checked_names(classes)
    if numbers and min(numbers) < 0:
        raise UserError(f"labels: {min(numbers)} is not a class; classes are numbered from 0")
    if numbers and names:
        if max(numbers) >= len(names):
            raise UserError(
                f"labels go up to {max(numbers)}, but classes has only {len(names)} names: {some(names, SHOWN)}"
            )
        return np.array(numbers, dtype=np.int64), names
    found = tuple(map(str, sorted(set(numbers)))) if numbers else names or tuple(sorted(set(texts)))
    return _indices(list(map(str, numbers)) if numbers else texts, found), found


def _indices(texts: Sequence[str], names: tuple[str, ...]) -> np.ndarray:
    number = {name: i for i, name in enumerate(names)}
    if unknown := sorted(set(texts) - set(names)):
        raise UserError(
            f"label {unknown[0]!r} is not in classes: {some(names, SHOWN)}.{nearest(unknown[0], list(names))}"
        )
    return np.array([number[text] for text in texts], dtype=np.int64)


def _checked_names(classes: Sequence[str] | None) -> tuple[str, ...]:
    names = () if classes is None else tuple(classes)
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise UserError(f"classes: names are texts, found {wrong[0]!r:.60}")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"classes: {twice[0]!r} occurs twice; each class has one name")
    return names


def _plain(label: Any, number: int) -> int | str:
    if isinstance(label, Tensor | np.ndarray | np.generic) and np.asarray(label).size == 1:
        label = label.item()
    if isinstance(label, str):
        return label
    if isinstance(label, int):
        return int(label)
    if isinstance(label, float):
        raise UserError(
            f"label {number} is {label:g}, a float; labels are class numbers from 0, or names: labels.astype(int) if these are "
            "whole numbers"
        )
    raise UserError(f"label {number} is {label!r:.60}; labels are class numbers from 0, or names, one for each image")
