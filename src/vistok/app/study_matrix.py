"""A study as a matrix: a row for each tokenizer, a column for each generator and length, a mark for each seed."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from markupsafe import Markup

from vistok.app.parts import joined, quiet, said, table
from vistok.errors import counted, printable
from vistok.study.run.record import StudyFolder
from vistok.study.run.standing import DONE, FAILED, RUNNING, WAITING, Cell, read_standing

STATES = (DONE, RUNNING, FAILED, WAITING)
TOKENIZER = ("", 0)  # the column of the tokenizers themselves


def known_studies(runs: Path, results: Path) -> dict[str, tuple[Path | None, Path]]:
    """Return the studies that there are by name: the folder of their runs, if any are here, and that of their results."""
    found: dict[str, tuple[Path | None, Path]] = {}
    for file in sorted(runs.glob("*/logs/standing.json")):
        place = file.parent.parent
        standing = read_standing(place)
        if standing is not None:
            found[place.name] = (place, standing[1])
    taken = {folder.resolve() for _, folder in found.values()}
    for folder in sorted({file.parent for file in results.glob("*/records")}):
        if folder.resolve() not in taken:
            found[str(folder)] = (None, folder)
    return found


def cells_of(place: Path | None, results: Path) -> tuple[list[Cell], bool]:
    """Return a study's cells and whether it runs now. What has a record is done, whoever wrote it.

    Raises UserError for a damaged file of its standing; damaged records are left out.
    """
    standing = read_standing(place) if place is not None else None
    cells = {cell.run: cell for cell in standing[0]} if standing else {}
    folder = StudyFolder(results)
    recorded = {run: replace(cell, state=DONE) if folder.finished(run) else cell for run, cell in cells.items()}
    if standing is None:
        recorded = {
            cell.run: cell for file in sorted((results / "records").glob("*.json")) if (cell := _recorded(file))
        }
    return list(recorded.values()), bool(standing and standing[2])


def _recorded(file: Path) -> Cell | None:
    try:
        row = json.loads(file.read_bytes())["row"]
        if row["kind"] == "tokenizer":
            return Cell(row["run"], row["choice"], "", 0, row["seed"], DONE)
        return Cell(row["run"], row["tokenizer_choice"], row["choice"], row["steps"], row["seed"], DONE)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def matrix(cells: Sequence[Cell], alive: bool) -> Markup:
    """Return the matrix with a summary and what its marks mean."""
    if not cells:
        return said("Nothing of this study has been run yet.")
    tokenizers = sorted({cell.tokenizer for cell in cells})
    columns = [TOKENIZER, *sorted({(cell.generator, cell.steps) for cell in cells if cell.generator})]
    at: dict[tuple[str, str, int], list[Cell]] = {}
    for cell in cells:
        at.setdefault((cell.tokenizer, cell.generator, cell.steps), []).append(cell)
    rows = [
        [printable(tokenizer), *(_marks(at.get((tokenizer, *column), [])) for column in columns)]
        for tokenizer in tokenizers
    ]
    headings = ["tokenizer", *(_heading(*column) for column in columns)]
    return joined([
        said(summary(cells, alive), "bad" if any(cell.state == FAILED for cell in cells) else ""),
        _legend(),
        Markup('<div class="scroll">{}</div>').format(table(headings, rows)),
    ])  # fmt: skip


def summary(cells: Sequence[Cell], alive: bool) -> str:
    """Return how many runs stand where, in words."""
    counts = {state: sum(cell.state == state for cell in cells) for state in STATES}
    told = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    now = "It runs now." if alive else "It does not run now." if counts[WAITING] or counts[FAILED] else ""
    return f"{counted(len(cells), 'run')}: {told}. {now}".strip()


def _heading(generator: str, steps: int) -> str:
    return f"{generator}, {steps:,} steps" if generator else "trained"


def _marks(cells: Sequence[Cell]) -> Markup:
    ordered = sorted(cells, key=lambda cell: cell.seed)
    return joined([
        Markup('<span class="state {0}" title="{1}: {0}">{2}</span>').format(cell.state, printable(cell.run), cell.seed)
        for cell in ordered
    ])  # fmt: skip


def _legend() -> Markup:
    marks = joined([Markup('<span class="state {0}">{0}</span>').format(state) for state in STATES])
    return joined([Markup('<div class="legend-states">{}</div>').format(marks), quiet("The numbers are seeds.")])
