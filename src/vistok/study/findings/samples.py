"""Sheets of samples at equal compute, with the names of their classes."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from vistok.files import data_uri
from vistok.study.findings.arms import Arms
from vistok.study.findings.claim_data import by_family, longest
from vistok.study.run.record import SHEET_COLUMNS, StudyFolder

# A header of this many bytes is none.
MOST_BYTES = 2**24


def sample_sheets(folder: StudyFolder, rows: pd.DataFrame, arms: Arms) -> list[dict[str, Any]]:
    """Return a sheet for each tokenizer and family: the largest generator's longest run, of the first seed."""
    sheets = []
    families = {family: longest(of_family) for family, of_family in by_family(rows).items()}
    for (family, last), name in product(families.items(), arms.all):
        of_choice = last[last.tokenizer_choice == name].sort_values("seed")
        file = folder.sheet_file(str(of_choice.run.iloc[0])) if len(of_choice) else None
        if file is None or not file.is_file():
            continue
        row = of_choice.iloc[0]
        sheets.append({
            "name": f"{arms[name]}, {family}" if len(families) > 1 else arms[name], "colour": arms.colour(name), "gfmd": float(row.gfmd), "scale": row.guidance_scale, "seed": row.seed,
            "classes": class_names(folder.weights_file(str(row.tokenizer_run)))[:SHEET_COLUMNS], "picture": data_uri(file.read_bytes()),
        })  # fmt: skip
    return sheets


def class_names(weights: Path) -> tuple[str, ...]:
    """Return the class names in the header of a weights file, read without its weights; none where they cannot be read."""
    try:
        with open(weights, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if size < MOST_BYTES else {}
        names = json.loads(header["__metadata__"]["vistok"])["class_names"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return ()
    return tuple(str(name) for name in names) if isinstance(names, list) else ()
