"""`vistok.runs`: all runs of a folder as a table, with a column for each protocol of their scores."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vistok.errors import UserError
from vistok.metrics.protocol import Protocol, Score
from vistok.overview.table import run_rows
from vistok.python.frames import how, protocol_labels
from vistok.python.stored import stored_scores

FACTS = ("kind", "recipe", "differs", "state", "step", "steps", "alarms", "changed", "path")


def runs(folder: str | Path = "runs") -> pd.DataFrame:
    """Return the runs of a folder, the newest first, as a table indexed by their names.

    Columns have two levels. Facts are `kind`, `recipe`, `differs` (values that are not the recipe's), `state`, `step` and
    `steps`, `alarms`, `changed` (local time) and `path`. Scores are (metric, protocol): evaluator, number and name of the
    reference images, number of samples, and guidance where there is some. So `table["gFMD"]` has a column for each protocol,
    and scores that cannot be compared are never in one column. What a run lacks is NaN; `vistok.run(name).scores()` has the
    intervals.

    Example: `vistok.runs()["rFMD"].plot.bar()`. Raises UserError if there is no such folder.
    """
    rows = run_rows(Path(folder))
    scores = {row.name: _scores(row.path) for row in rows}
    columns = _columns([score for of_run in scores.values() for score in of_run])
    table: dict[tuple[str, str], list[Any]] = {
        (name, ""): [_fact(row.as_json()[name]) if name != "changed" else row.changed for row in rows] for name in FACTS
    }
    for label, key in columns.items():
        values = (
            {_key(score): score.value for score in scores[row.name]} for row in rows
        )  # the newest of equal protocols
        table[label] = [found.get(key, float("nan")) for found in values]
    names = pd.MultiIndex.from_tuples(table, names=["", ""])
    return pd.DataFrame(
        list(zip(*table.values(), strict=True)), columns=names, index=pd.Index([row.name for row in rows], name="run")
    )


def _scores(path: Path) -> list[Score]:
    try:
        return stored_scores(path)
    except UserError:  # a damaged evaluation is no reason to hide the other runs; reading it by itself says what to do
        return []


def _key(score: Score) -> tuple[Protocol, str]:
    return score.protocol, how(score)


def _columns(scores: Sequence[Score]) -> dict[tuple[str, str], tuple[Protocol, str]]:
    """Return a label for each different protocol and way of making images: (metric, protocol in words)."""
    keys = list(dict.fromkeys(map(_key, scores)))
    labels: dict[tuple[str, str], tuple[Protocol, str]] = {}
    for metric in dict.fromkeys(protocol.metric for protocol, _ in keys):
        protocols = list(dict.fromkeys(protocol for protocol, _ in keys if protocol.metric == metric))
        words = dict(zip(protocols, protocol_labels(protocols), strict=True))
        for protocol, made in keys:
            if protocol.metric == metric:
                labels[metric, ", ".join(filter(None, (words[protocol], made)))] = (protocol, made)
    return labels


def _fact(value: Any) -> Any:
    if isinstance(value, dict):
        return ", ".join(f"{path}={part}" for path, part in value.items())
    return ", ".join(value) if isinstance(value, list) else value
