"""Classes as a user gives them: by name, which may contain commas and spaces, or by number."""

import csv
import re
from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from vistok.errors import UserError, counted, nearest, some
from vistok.runs.drawing import balanced_labels

SHOWN = 20  # classes that an error lists


def chosen_labels(texts: Sequence[str], class_names: Sequence[str], count: int) -> Int[Tensor, "count"]:
    """Return `count` labels that cycle through the chosen classes, or through all classes if none are chosen.

    Each text is a class's whole name, or names and numbers separated by commas; quotes protect a comma inside a name. Where names are
    numbers themselves, only names are taken. Raises UserError for an unknown or ambiguous class, and for more classes than images.
    """
    if not texts:
        return balanced_labels(count, len(class_names))
    chosen = torch.tensor([number for text in texts for number in _numbers(text, class_names)])
    if count < len(chosen):
        raise UserError(
            f"{len(chosen)} classes chosen, but {counted(count, 'image')} asked for; ask for {len(chosen)} or more"
        )
    return chosen[balanced_labels(count, len(chosen))]


def _numbers(text: str, names: Sequence[str]) -> list[int]:
    whole = _named(text, names)
    if whole is not None:
        return [whole]
    try:
        parts = next(csv.reader([text], skipinitialspace=True), None) or [""]
    except csv.Error as error:
        raise UserError(f"--class {text!r}: {error}; give names or numbers, separated by commas") from None
    return [_number(part.strip(), names) for part in parts]


def _number(part: str, names: Sequence[str]) -> int:
    named = _named(part, names)
    if named is not None:
        return named
    named_by_numbers = any(re.fullmatch(r"[0-9]+", name) for name in names)  # "1" may then mean 01, or the second class
    # str.isdigit also accepts '²'
    if re.fullmatch(r"[0-9]{1,9}", part) and int(part) < len(names) and not named_by_numbers:
        return int(part)
    known = names if named_by_numbers else [f"{number} {name}" for number, name in enumerate(names)]
    raise UserError(
        f"unknown class {part!r}; there are {len(names)}: {some(known, SHOWN)}.{nearest(part, list(names))}"
    )


def _named(text: str, names: Sequence[str]) -> int | None:
    """Return the number of the class with this name: an exact match or, if that is unambiguous, in any case."""
    for known, wanted in ((list(names), text), ([name.casefold().strip() for name in names], text.casefold().strip())):
        matches = [number for number, name in enumerate(known) if name == wanted]
        if len(matches) > 1:
            numbered = some((f"{number} {names[number]}" for number in matches), SHOWN)
            raise UserError(f"class {text!r} may be any of {numbered}; choose by number")
        if matches:
            return matches[0]
    return None
