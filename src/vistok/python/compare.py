"""`vistok.compare`: scores of runs and networks side by side, as far as their protocols allow it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from vistok.errors import UserError
from vistok.metrics.protocol import Protocol, Score, differences
from vistok.python.comparison_html import as_html
from vistok.python.finding import model_path
from vistok.python.frames import how
from vistok.python.run import Run
from vistok.python.scores import Scores, read_scores
from vistok.python.stored import stored_scores

HIGHER_IS_BETTER = ("psnr", "ssim", "precision", "recall", "inception score")
LOWER_IS_BETTER = ("fid", "fmd", "kid", "kmd", "nats", "bits per image")


@dataclass(frozen=True)
class Line:
    """One protocol's scores, for each thing that has one; `made`: how each one's images were made, where that differs."""

    protocol: Protocol
    scores: dict[str, Score]
    made: dict[str, str]

    @property
    def metric(self) -> str:
        """The metric's name, and how the images were made where they were all made alike."""
        alike = set(self.made.values())
        only = alike.pop() if len(alike) == 1 else ""
        return f"{self.protocol.metric} ({only})" if only else self.protocol.metric

    @property
    def best(self) -> str | None:
        """The name of the best, or None where better has no meaning."""
        sign = better(self.protocol.metric)
        return None if sign == 0 else max(self.scores, key=lambda name: sign * self.scores[name].value)


class Comparison:
    """Scores side by side: a notebook shows them as a table, the best of each line in bold.

    `table` has a row for each protocol that at least two share, and for each name its value; `differences` the paired
    differences from the first, with 95 % intervals. `apart` says what cannot be compared, and why.

    Example: `vistok.compare("latest", vistok.score(my_model, run)).differences`.
    """

    def __init__(self, names: Sequence[str], lines: Sequence[Line], apart: Sequence[str]) -> None:
        self.names, self.lines, self.apart = tuple(names), tuple(lines), tuple(apart)

    @property
    def table(self) -> pd.DataFrame:
        """The values: a row for each line, a column for each name."""
        rows = [
            [line.scores[name].value if name in line.scores else float("nan") for name in self.names]
            for line in self.lines
        ]
        return pd.DataFrame(rows, index=self._index(self.lines), columns=list(self.names))

    @property
    def differences(self) -> pd.DataFrame:
        """Each one's difference from the first that has the score: value, low and high (95 %, NaN for too few images)."""
        rows, lines = [], []
        for line in self.lines:
            first, *others = line.scores
            for name in others:
                difference = line.scores[name].minus(line.scores[first])
                bounds = difference.interval
                low, high = (bounds.low, bounds.high) if bounds else (float("nan"), float("nan"))
                rows.append([name, first, difference.value, low, high])
                lines.append(line)
        return pd.DataFrame(rows, index=self._index(lines), columns=["name", "minus", "value", "low", "high"])

    @staticmethod
    def _index(lines: Sequence[Line]) -> pd.Index:
        return pd.Index([line.metric for line in lines], name="score")

    def _repr_html_(self) -> str:
        return as_html(self)

    def __repr__(self) -> str:
        return "\n".join([self.table.to_string(), *(f"not compared: {line}" for line in self.apart)])


def compare(*things: "Run | Scores | str | Path") -> Comparison:
    """Set the scores of several things side by side; scores of different protocols are never compared.

    Each is a run, its path or a part of its name, what `vistok.score` returned (of a network of any kind, too), or a file that
    `Scores.save` wrote. Differences are paired: the same images are left out of both.

    Example: `vistok.compare(run, vistok.score(my_model, reference=run))`. Raises UserError for fewer than two, for runs without
    scores, and if no two share a protocol, saying in what they differ.
    """
    if len(things) < 2:
        raise UserError("compare: give two or more runs or scores")
    scores = dict(_named(thing) for thing in things)
    if len(scores) < len(things):
        raise UserError(
            f"compare: two of these are called {_twice([_named(thing)[0] for thing in things])!r}; name one, as in "
            'vistok.score(..., name="mine")'
        )
    lines = [line for protocol in _protocols(scores) for line in _lines(protocol, scores)]
    apart = [reason for metric in _metrics(scores) if (reason := _apart(metric, scores, lines))]
    if not lines:
        raise UserError(
            f"{', '.join(scores)} have no protocol in common and cannot be compared: {'; '.join(apart[:1]) or 'no kind of score is shared'}. "
            "Score them with the same evaluator, reference and number of samples"
        )
    return Comparison(list(scores), lines, apart)


def better(metric: str) -> int:
    """Return 1 if higher is better, -1 if lower is, 0 if neither."""
    name = metric.lower()
    if any(part in name for part in HIGHER_IS_BETTER):
        return 1
    return -1 if any(part in name for part in LOWER_IS_BETTER) else 0


def _named(thing: Any) -> tuple[str, list[Score]]:
    if isinstance(thing, Scores):
        return thing.name, list(thing.all)
    if isinstance(thing, str | Path) and Path(thing).is_file() and str(thing).endswith(".json"):
        found = read_scores(Path(thing))
        return found.name, list(found.all)
    path = model_path(thing)
    scores = stored_scores(path) if path.is_dir() else []
    if not scores:
        raise UserError(f"{path.name} has no scores yet; make them with vistok.score({path.name!r})")
    return path.name, scores


def _twice(names: list[str]) -> str:
    return next(name for name in names if names.count(name) > 1)


def _protocols(scores: dict[str, list[Score]]) -> list[Protocol]:
    return list(dict.fromkeys(score.protocol for of_one in scores.values() for score in of_one))


def _metrics(scores: dict[str, list[Score]]) -> list[str]:
    return list(dict.fromkeys(protocol.metric for protocol in _protocols(scores)))


def _lines(protocol: Protocol, scores: dict[str, list[Score]]) -> list[Line]:
    """Return a line for each way of making images that two share, and one for what is left, each as it was made."""
    fitting = {
        name: {how(score): score for score in of_one if score.protocol == protocol} for name, of_one in scores.items()
    }
    ways = list(dict.fromkeys(made for by_way in fitting.values() for made in by_way))
    shared = [made for made in ways if sum(made in by_way for by_way in fitting.values()) > 1]
    lines = [
        _line(protocol, {name: (made, ways[made]) for name, ways in fitting.items() if made in ways}) for made in shared
    ]
    rest = {
        name: next(((made, score) for made, score in by_way.items() if score.treatment.weights != "raw"), None)
        for name, by_way in fitting.items()
        if not any(made in shared for made in by_way)
    }
    left = {name: found for name, found in rest.items() if found is not None}
    return [*lines, _line(protocol, left)] if len(left) > 1 else lines


def _line(protocol: Protocol, found: dict[str, tuple[str, Score]]) -> Line:
    return Line(
        protocol, {name: score for name, (_, score) in found.items()}, {name: made for name, (made, _) in found.items()}
    )


def _apart(metric: str, scores: dict[str, list[Score]], lines: Sequence[Line]) -> str:
    """Say why a kind of score that two have is in no line; "" if it is in one, or only one has it."""
    having = {name: [score for score in of_one if score.protocol.metric == metric] for name, of_one in scores.items()}
    having = {name: of_one for name, of_one in having.items() if of_one}
    if len(having) < 2 or any(line.protocol.metric == metric for line in lines):
        return ""
    first, *others = having
    fewest = min(
        (differences(a.protocol, b.protocol) for a in having[first] for other in others for b in having[other]), key=len
    )
    return f"{metric}: {'; '.join(fewest)}"
