"""`vistok.compare`: scores of runs and networks side by side, as far as their protocols allow it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vistok.errors import UserError
from vistok.metrics.protocol import Score
from vistok.python.comparison_html import as_html
from vistok.python.finding import model_path
from vistok.python.run import Run
from vistok.python.scores import Scores, read_scores
from vistok.python.stored import stored_scores
from vistok.verbs.compare import alarm_lines, compare_scores
from vistok.verbs.comparison import Comparison as Found
from vistok.verbs.comparison import Row

WIDTH = 120  # characters of a line, where text is shown


class Comparison:
    """Scores side by side: a notebook shows them as a table, the better one of each line in bold if its difference from every
    other is settled (95 %).

    `rows` are the scores of one protocol each, `names` whose they are, `notes` what was not compared and why, and alarms.

    Example: `vistok.compare("latest", vistok.score(my_model, run)).differences`.
    """

    def __init__(self, found: Found) -> None:
        self.rows, self.names, self.notes = found.rows, found.runs, found.notes
        self._found = found

    @property
    def table(self) -> pd.DataFrame:
        """The values: a row for each protocol, a column for each name; NaN for a score that is not there."""
        values = [[float("nan") if score is None else score.value for score in row.scores] for row in self.rows]
        return pd.DataFrame(values, index=self._index(self.rows), columns=list(self.names))

    @property
    def differences(self) -> pd.DataFrame:
        """Each one's difference from the first that has the score: value, low and high (95 %, NaN for too few images)."""
        cells = [
            (row, name, found)
            for row in self.rows
            for name, found in zip(self.names, row.differences, strict=True)
            if found is not None
        ]
        values = [[name, found.value, found.low, found.high] for _, name, found in cells]
        frame = pd.DataFrame(
            values, index=self._index([row for row, *_ in cells]), columns=["name", "value", "low", "high"]
        )
        return frame.astype({"value": float, "low": float, "high": float})

    @staticmethod
    def _index(rows: Sequence[Row]) -> pd.Index:
        return pd.Index([row.metric for row in rows], name="score")

    def _repr_html_(self) -> str:
        return as_html(self._found)

    def __repr__(self) -> str:
        return "\n".join(self._found.lines(WIDTH))


def compare(*things: "Run | Scores | str | Path") -> Comparison:
    """Set the scores of several things side by side; scores of different protocols are never compared.

    Each is a run, its path or a part of its name, what `vistok.score` returned (of a network of any kind, too), or a file that
    `Scores.save` wrote. Differences are paired: the same images are left out of both.

    Example: `vistok.compare(run, vistok.score(my_model, reference=run))`. Raises UserError for fewer than two, for runs without
    scores, and if no two share a protocol, saying in what they differ.
    """
    if len(things) < 2:
        raise UserError("compare: give two or more runs or scores")
    named = [_named(thing) for thing in things]
    names = [name for name, *_ in named]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(
            f'compare: two of these are called {twice[0]!r}; name one, as in vistok.score(..., name="mine")'
        )
    found = compare_scores({name: scores for name, scores, _ in named})
    notes = [line for *_, more in named for line in more]
    return Comparison(Found(found.runs, found.rows, (*found.notes, *notes)))


def _named(thing: Any) -> tuple[str, list[Score], list[str]]:
    """Return a thing's name, its scores, and what else to say of it."""
    if isinstance(thing, Scores):
        return thing.name, list(thing.all), []
    if isinstance(thing, str | Path) and Path(thing).is_file() and str(thing).endswith(".json"):
        found = read_scores(Path(thing))
        return found.name, list(found.all), []
    path = model_path(thing)
    scores = stored_scores(path) if path.is_dir() else []
    if not scores:
        raise UserError(f"{path.name} has no scores yet; make them with vistok.score({path.name!r})")
    return path.name, scores, alarm_lines(path)
