"""Scores of several runs as a table: one protocol at a time, the better one bold, with intervals."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from vistok.app.parts import joined, quiet, table
from vistok.errors import printable

if TYPE_CHECKING:
    from vistok.verbs.comparison import Comparison, Difference, Row


def protocols(found: "Comparison") -> list[str]:
    """Return what was scored against what, in words: scores of different ones are never shown together."""
    return list(dict.fromkeys(row.images for row in found.rows))


def comparison_table(found: "Comparison", names: Sequence[str], protocol: str) -> Markup:
    """Return the runs (`names`, in the comparison's order) with their scores of one protocol, and the comparison's notes."""
    from vistok.verbs.comparison import BETTER

    rows = [row for row in found.rows if row.images == protocol]
    shared = {_how(row) for row in rows}
    headings = ["run", *(row.metric if len(shared) == 1 else f"{row.metric}, {_how(row)}" for row in rows)]
    body = [
        [printable(name), *(_cell(row, number) for row in rows)]
        for number, name in enumerate(names)
        if any(row.scores[number] is not None for row in rows)
    ]
    settled = any(row.better is not None for row in rows)
    legend = f"Bold is better: {BETTER.partition(': ')[2]}. " if settled else ""
    words = f"{legend}Below a score: its 95 % interval, and its paired difference from the first run that has one."
    above = [quiet(next(iter(shared)))] if len(shared) == 1 else []
    return joined([*above, table(headings, body), quiet(words), *map(quiet, found.notes)])


def _how(row: "Row") -> str:
    """Return in whose features a row's scores are, and how its images were made, where all were made alike."""
    ways = {str(way) for way in row.treatments if way is not None}
    network = "" if row.protocol.extractor == "none" else f"features of {row.protocol.extractor}"
    return ", ".join(filter(None, (network, ways.pop() if len(ways) == 1 else "")))


def _cell(row: "Row", number: int) -> Markup:
    score, difference = row.scores[number], row.differences[number]
    if score is None:
        return Markup("")
    as_text = f"z.{row.digits}f"
    parts = [Markup("<b>{}</b>" if number == row.better else "{}").format(format(score.value, as_text))]
    if score.low is not None and score.high is not None:
        parts.append(_remark(f"{format(score.low, as_text)} to {format(score.high, as_text)}"))
    if difference is not None:
        parts.append(_remark(_in_words(difference, f"+{as_text}")))
    if len({str(way) for way in row.treatments if way is not None}) > 1:
        parts.append(_remark(str(score.treatment)))
    return joined(parts)


def _in_words(difference: "Difference", as_text: str) -> str:
    value = format(difference.value, as_text)
    if difference.low is None or difference.high is None:
        return value
    return f"{value} ({format(difference.low, as_text)} to {format(difference.high, as_text)})"


def _remark(text: str) -> Markup:
    return Markup('<div class="quiet">{}</div>').format(text)
