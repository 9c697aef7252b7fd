"""A comparison as a notebook shows it."""

from collections.abc import Sequence

from markupsafe import Markup

from vistok.errors import printable
from vistok.verbs.comparison import BETTER, Comparison, Row

_SMALL = Markup("<br><small>{}</small>")


def as_html(found: Comparison) -> str:
    """Return a comparison as an HTML table: values with intervals, differences from the first below, the better ones bold."""
    head = Markup("").join(Markup("<th>{}</th>").format(printable(name)) for name in ("", *found.runs))
    rows = Markup("").join(Markup("<tr>{}</tr>").format(Markup("").join(_cells(row))) for row in found.rows)
    settled = any(row.better is not None for row in found.rows)
    words: Sequence[str] = [*([f"Bold is better: {BETTER.partition(': ')[2]}"] if settled else []), *found.notes]
    notes = Markup("").join(Markup("<li>{}</li>").format(printable(line)) for line in words)
    return str(Markup("<table><tr>{}</tr>{}</table><ul>{}</ul>").format(head, rows, notes))


def _cells(row: Row) -> list[Markup]:
    ways = {str(way) for way in row.treatments if way is not None}
    what = row.images + (f"; {row.treatment}" if len(ways) == 1 else "")
    cells = [Markup('<td style="text-align:left">{}{}</td>').format(row.label, _SMALL.format(what))]
    for number, (score, difference) in enumerate(zip(row.scores, row.differences, strict=True)):
        if score is None:
            cells.append(Markup("<td></td>"))
            continue
        number_text = f"z.{row.digits}f"
        value = Markup("<b>{}</b>" if number == row.better else "{}").format(format(score.value, number_text))
        interval = _interval(score.low, score.high, number_text)
        below = Markup("")
        if difference is not None:
            change = format(difference.value, f"+{number_text}")
            below += _SMALL.format(f"{change}{_interval(difference.low, difference.high, f'+{number_text}')}")
        if len(ways) > 1:
            below += _SMALL.format(str(score.treatment))
        cells.append(Markup("<td>{}{}{}</td>").format(value, interval, below))
    return cells


def _interval(low: float | None, high: float | None, as_text: str) -> str:
    return "" if low is None or high is None else f" ({format(low, as_text)} to {format(high, as_text)})"
