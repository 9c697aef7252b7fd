"""The labels of a parquet file: which column holds them, and what its values mean."""

from pathlib import Path
from typing import Any

import numpy as np

from vistok.errors import UserError

# The first of these that exists is used, ignoring case.
COLUMNS = (
    "label", "labels", "fine_label", "coarse_label", "cls", "class", "class_id", "target", "category",
)  # fmt: skip


def label_column(schema: Any) -> tuple[str | None, str]:
    """Return the column of an Arrow schema that holds labels, or None, and a note if the choice is not obvious."""
    columns = {str(name).lower(): str(name) for name in schema.names}
    named = [columns[name] for name in COLUMNS if name in columns]
    if len(named) > 1:
        return named[0], f"labels come from column {named[0]!r}; {', '.join(named[1:])} could be labels too"
    if not named and len(columns) > 1:
        return None, (
            f"no column of labels, so all images form one class; looked for {', '.join(COLUMNS)}, but the columns are "
            f"{', '.join(schema.names)}"
        )
    return (named[0] if named else None), ""


class Labels:
    """Collects the values of a column: whole numbers, or strings, which become classes."""

    def __init__(self, path: Path, column: str | None, class_names: tuple[str, ...]) -> None:
        """`class_names`: the names that the file's metadata gives to the numbers, () if none."""
        self.path, self.column, self.class_names = path, column, class_names
        self.rows = 0
        self._numbers: list[np.ndarray] = []
        self._of_name: dict[str, int] = {}
        self._first_empty: int | None = None
        self._num_empty = 0

    def add(self, values: Any) -> None:
        """Add the values of some rows, as an Arrow array."""
        from pyarrow import types

        if types.is_dictionary(values.type):
            values = values.dictionary_decode()
        empty = values.is_null().to_numpy(zero_copy_only=False)
        if empty.any() and self._first_empty is None:
            self._first_empty = self.rows + int(empty.argmax())
        self._num_empty += int(empty.sum())
        if types.is_integer(values.type) or types.is_boolean(values.type):
            self._numbers.append(values.cast("int64").fill_null(0).to_numpy(zero_copy_only=False))
        elif types.is_string(values.type) or types.is_large_string(values.type):
            self._numbers.append(np.array([self._number(value) for value in values.to_pylist()], dtype=np.int64))
        elif types.is_null(values.type):
            self._numbers.append(np.full(len(values), -1))
        else:
            raise UserError(
                f"parquet file {self.path}: row {self.rows} of column {self.column!r} holds {values[0]!s:.80} "
                f"({values.type}); labels must be whole numbers or strings, one per image"
            )
        self.rows += len(values)

    def finished(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the labels (int64; -1 if the whole column is empty) and the class names they index, if any."""
        if self.column is None or self._num_empty == self.rows:
            return np.full(self.rows, -1, dtype=np.int64), self.class_names
        if self._num_empty:
            raise UserError(
                f"parquet file {self.path}: row {self._first_empty} of column {self.column!r} is empty, one of "
                f"{self._num_empty} empty rows of {self.rows}; label all images"
            )
        numbers = np.concatenate(self._numbers)
        return (numbers.astype(np.int64), self.class_names) if not self.by_name else self._sorted(numbers)

    @property
    def by_name(self) -> bool:
        """Whether the column holds names."""
        return bool(self._of_name)

    def _number(self, value: str | None) -> int:
        return -1 if value is None else self._of_name.setdefault(value, len(self._of_name))

    def _sorted(self, numbers: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the labels of a column of strings, and its sorted names."""
        names = sorted(self._of_name)
        place = np.empty(len(names), dtype=np.int64)
        place[[self._of_name[name] for name in names]] = np.arange(len(names))
        return place[numbers], tuple(names)
