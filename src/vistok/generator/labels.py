"""Labels as a user gives them to a generator: class numbers, or names where the generator knows its classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vistok.errors import UserError, nearest, some

SHOWN = 20


def labels_given(labels: Any, class_names: Sequence[str]) -> Tensor:
    """Return labels (batch,) as int64, from a tensor, an array, a list or a range of class numbers, or a list of class names.

    Raises UserError for anything else, and for unknown names.
    """
    if isinstance(labels, Tensor):
        values = labels
    else:
        array = np.asarray(labels)
        if array.dtype.kind in "UO" and array.ndim == 1:
            array = np.array([_number(label, class_names) for label in array.tolist()], dtype=np.int64)
        if array.dtype.kind not in "iu" and array.size:
            raise UserError(
                f"labels {labels!r:.60}: wanted class numbers, (batch,), as a tensor, an array or a list; or a list of names"
            )
        values = torch.from_numpy(array.astype(np.int64))
    if values.ndim != 1:
        more = "; give one as [label]" if values.ndim == 0 else ""
        raise UserError(
            f"labels of shape {tuple(values.shape)}: wanted one class number for each image, (batch,){more}"
        )
    if values.is_floating_point() or values.is_complex() or values.dtype == torch.bool:
        raise UserError(f"labels of {values.dtype}: class numbers are whole numbers; use labels.long()")
    return values.long()


def _number(label: Any, class_names: Sequence[str]) -> int:
    if isinstance(label, int) and not isinstance(label, bool):
        return label
    names = list(class_names)
    if label not in names:
        known = (
            f"{some(names, SHOWN)}.{nearest(str(label), names)}"
            if names
            else "this generator has no names for its classes"
        )
        raise UserError(f"class {label!r:.60} is unknown; classes: {known}")
    return names.index(label)
