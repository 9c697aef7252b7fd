"""The arms of a study, its tokenizer choices: named by what varies between them, each with one colour in all figures."""

import math
import re
from collections.abc import Sequence

import pandas as pd

from vistok.page.colours import SERIES
from vistok.study.findings.claim_data import StudyData
from vistok.study.run.record import OTHERS


class Arms:
    """Names and colours of a study's tokenizer choices. The baseline comes first, in blue; then the main grid's; then the rest."""

    def __init__(self, data: StudyData, main: pd.DataFrame) -> None:
        rows, base, study = data.tokenizers, data.study.baseline, data.study
        ordered = [choice.name for grid in study.grids for choice in grid.tokenizers]
        known = [name for name in dict.fromkeys([base, *ordered]) if (rows.choice == name).any()]
        first = [name for name in known if name == base or (main.tokenizer_choice == name).any()]
        self.baseline, self.main = base, first
        self.all = list(dict.fromkeys([*first, *known]))
        self.colours = {base: 0}
        self._names: dict[str, str] = {}
        # Of several grids, the first that has a choice names it, the main grid before the others.
        for names in [first, *([choice.name for choice in grid.tokenizers] for grid in study.grids)]:
            names = [name for name in names if name in known]
            _colour(self.colours, names, reserved={self.colours[name] for name in first if name in self.colours})
            self._names = _named(rows, names) | self._names
        self._names = _unique(self._names, first)

    def __getitem__(self, choice: str) -> str:
        """Return a choice's name: what it has that others have not."""
        return self._names.get(choice, choice)

    def among(self, rows: pd.DataFrame) -> dict[str, str]:
        """Return the names of the choices in some generators' rows, by what varies among these alone."""
        names = list(dict.fromkeys(rows.tokenizer_choice))
        found = _named(rows, names, where="tokenizer_choice")
        return {name: found.get(name, self[name]) for name in names}

    def colour(self, choice: str) -> int:
        """Return the number of a choice's colour."""
        return self.colours.get(choice, len(SERIES) - 1)


def _colour(colours: dict[str, int], names: Sequence[str], reserved: set[int]) -> None:
    """Give the names that have no colour yet the first that no other of them has, and if possible none of the `reserved`."""
    taken = {colours[name] for name in names if name in colours}
    for name in names:
        if name not in colours:
            numbers = sorted(range(1, len(SERIES)), key=lambda number: number in reserved)
            free = [number for number in numbers if number not in taken]
            colours[name] = free[0] if free else 1 + len(taken) % (len(SERIES) - 1)
            taken.add(colours[name])


def _named(rows: pd.DataFrame, names: Sequence[str], where: str = "choice") -> dict[str, str]:
    """Name choices by the columns in which they differ; by their own names where these do not tell all of them apart.

    A regularizer's settings are left out where its name is enough.
    """
    settings = {name: rows[rows[where] == name].iloc[0] for name in names}
    varying = [
        column
        for column in ("crt_variant", "crt_weight", "crt_layers", OTHERS, "codebook_size", "num_tokens", "image_size")
        if len({_plain(one.get(column)) for one in settings.values()}) > 1
    ]
    found = {name: _name(one, varying, settings) for name, one in settings.items()}
    if not varying:
        return {}
    short = {name: re.sub(r" \([^)]*\)", "", one) for name, one in found.items()}
    found = short if len(set(short.values())) == len(found) else found
    return found if len(set(found.values())) == len(found) else {name: name for name in names}


def _name(one: "pd.Series[str]", varying: Sequence[str], settings: "dict[str, pd.Series[str]]") -> str:
    parts = []
    if any(column.startswith("crt_") or column == OTHERS for column in varying):
        parts.append(_regularizer(one, settings))
    codes = _plain(one["codebook_size"])
    if "codebook_size" in varying:
        parts.append("vectors" if codes is None else f"{codes:,.0f} codes")
    if "image_size" in varying:
        parts.append(f"{one['image_size']} pixels")
    if "num_tokens" in varying:
        line = " in a line" if one.get("layout") == "line" else ""
        parts.append(f"{one['num_tokens']} {'vectors' if codes is None else 'tokens'}{line}")
    return ", ".join(parts)


def _regularizer(one: "pd.Series[str]", settings: "dict[str, pd.Series[str]]") -> str:
    others = _plain(one.get(OTHERS))
    if one["crt_variant"] == "none":
        return str(others or "no regularizer")
    layers = {_plain(other["crt_layers"]) for other in settings.values() if other["crt_variant"] != "none"}
    deep = f", {one['crt_layers']} layers" if len(layers) > 1 else ""
    return f"{one['crt_variant']} at weight {float(one['crt_weight']):g}{deep}{f' + {others}' if others else ''}"


def _plain(value: object) -> float | str | None:
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return None
    return value if isinstance(value, str) else float(value)  # type: ignore[arg-type]


def _unique(names: dict[str, str], first: Sequence[str]) -> dict[str, str]:
    """Return the names, but of those that are alike each choice's own, unless it is among the `first`, of which one may have it."""
    counts = list(names.values())
    return {choice: name if counts.count(name) == 1 or choice in first else choice for choice, name in names.items()}
