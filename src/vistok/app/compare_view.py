"""Scores of several runs as a table: one protocol at a time, the better one bold, with intervals."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from vistok.app.parts import joined, quiet, said, table
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
    headings = ["run", *(_heading(row) for row in rows)]
    body = [
        [printable(name), *(_cell(row, number) for row in rows)]
        for number, name in enumerate(names)
        if any(row.scores[number] is not None for row in rows)
    ]
    settled = any(row.better is not None for row in rows)
    legend = f"Bold is better: {BETTER.partition(': ')[2]}. " if settled else ""
    words = (
        f"{legend}In brackets: 95 % intervals. Below a score: its paired difference from the first run that has one."
    )
    return joined([table(headings, body), quiet(words), *(said(note) for note in found.notes)])


def _heading(row: "Row") -> str:
    ways = {str(way) for way in row.treatments if way is not None}
    return f"{row.label}, {ways.pop()}" if len(ways) == 1 else row.label


def _cell(row: "Row", number: int) -> Markup:
    score, difference = row.scores[number], row.differences[number]
    if score is None:
        return Markup("")
    as_text = f"z.{row.digits}f"
    value = Markup("<b>{}</b>" if number == row.better else "{}").format(format(score.value, as_text))
    parts = [value]
    if score.low is not None and score.high is not None:
        parts.append(_remark(f" ({format(score.low, as_text)} to {format(score.high, as_text)})"))
    if difference is not None:
        parts += [Markup("<br>"), _remark(_in_words(difference, f"+{as_text}"))]
    if len({str(way) for way in row.treatments if way is not None}) > 1:
        parts += [Markup("<br>"), _remark(str(score.treatment))]
    return joined(parts)


def _in_words(difference: "Difference", as_text: str) -> str:
    value = format(difference.value, as_text)
    if difference.low is None or difference.high is None:
        return value
    return f"{value} ({format(difference.low, as_text)} to {format(difference.high, as_text)})"


def _remark(text: str) -> Markup:
    return Markup('<span class="quiet">{}</span>').format(text)
