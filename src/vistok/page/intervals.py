"""Values with their intervals, one below the other, or one alone beside the margins that it is judged by."""

import json
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup, escape

from vistok.page.axes import Axis, number
from vistok.page.colours import variable
from vistok.page.marks import mark

WIDTH, SIDE = 400, 14
ROW, LABEL, BAR = 40, 14, 27  # heights: of a row, of its label's and of its bar's middle
FOOT, LINE = 42, 15
LETTERS = 54  # that fit beside each other


@dataclass(frozen=True)
class Row:
    """A value with the ends of its interval (None: unknown), the single `points` behind it, and what the readout says."""

    label: str
    value: float | None
    low: float | None = None
    high: float | None = None
    colour: int = 0
    points: Sequence[float] = ()
    text: str = ""

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval's ends, or None where one is not known or not finite."""
        if self.low is None or self.high is None or not (math.isfinite(self.low) and math.isfinite(self.high)):
            return None
        return self.low, self.high


@dataclass(frozen=True)
class Rows:
    """Rows over one axis; `references` are labelled vertical lines: where nothing changes, or a margin."""

    title: str
    rows: Sequence[Row]
    x_label: str = ""
    log: bool = False
    references: dict[str, float] = field(default_factory=dict)

    def figure(self) -> Markup:
        """Return the rows with their title and a line that reads out the row under the pointer."""
        return Markup('<figure><div class="chart-title">{}</div>{}<div class="readout"></div></figure>').format(
            self.title, Markup(self.svg())
        )

    def svg(self) -> str:
        """Return the drawing alone."""
        bottom = ROW * len(self.rows) + 4
        foot = "; ".join([self.x_label, *(f"dashed: {name}" for name in self.references if name)])
        lines = textwrap.wrap(foot, LETTERS)
        height = bottom + FOOT + LINE * max(0, len(lines) - 1)
        x = _axis(self.rows, self.log, list(self.references.values()), SIDE, WIDTH - SIDE)
        points = [
            {"x": x(row.value), "y": ROW * i + BAR, "text": row.text or _told(row)}
            for i, row in enumerate(self.rows)
            if row.value is not None
        ]
        parts = [
            f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(self.title)}" '
            f'data-vertical="3" data-points="{escape(json.dumps(points))}">'
        ]
        for value in x.ticks(6):
            at = x(value)
            parts.append(f'<line class="grid" x1="{at}" x2="{at}" y1="0" y2="{bottom}"/>')
            parts.append(f'<text x="{at}" y="{bottom + 16}" text-anchor="middle">{number(value)}</text>')
        parts += [_reference(x(value), bottom) for value in self.references.values()]
        for i, row in enumerate(self.rows):
            parts.append(f'<text class="row-label" x="0" y="{ROW * i + LABEL}">{_short(row.label)}</text>')
            parts += _bar(row, x, ROW * i + BAR)
        parts += [
            f'<text x="{WIDTH / 2}" y="{bottom + 34 + LINE * i}" text-anchor="middle">{escape(line)}</text>'
            for i, line in enumerate(lines)
        ]
        parts.append(f'<line class="cursor" y1="0" y2="{bottom}" style="display:none"/></svg>')
        return "".join(parts)


def interval_bar(row: Row, margins: dict[str, float], log: bool = False, beside: Sequence[Row] = ()) -> Markup:
    """Return one row's bar as a small picture with labelled margins (dashed), on an axis that holds the rows `beside`, too."""
    width, middle, height = 230, 13, 42
    x = _axis([row, *beside], log, list(margins.values()), 24, width - 24)
    parts = [
        f'<svg class="chart interval" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(row.text or _told(row))}">',
        f'<line class="grid" x1="0" x2="{width}" y1="{middle}" y2="{middle}"/>',
    ]
    for name, value in margins.items():
        parts.append(_reference(x(value), 26))
        parts.append(f'<text x="{x(value)}" y="39" text-anchor="middle">{escape(name)}</text>')
    return Markup("".join([*parts, *_bar(row, x, middle), "</svg>"]))


def _axis(rows: Sequence[Row], log: bool, others: list[float], start: float, end: float) -> Axis:
    known: list[Any] = [value for row in rows for value in (row.value, row.low, row.high, *row.points)]
    return Axis.around([value for value in [*known, *others] if value is not None], log, start, end)


def _bar(row: Row, x: Axis, y: float) -> list[str]:
    parts = [mark(row.colour, x(point), y, 2.6, 0.45) for point in row.points]
    if row.value is None:
        return parts
    if row.interval:
        ends = x(row.interval[0]), x(row.interval[1])
        stroke = f'stroke="{variable(row.colour)}" stroke-width="2"'
        parts.append(f'<line x1="{ends[0]}" x2="{ends[1]}" y1="{y}" y2="{y}" {stroke}/>')
        parts += [f'<line x1="{end}" x2="{end}" y1="{y - 4}" y2="{y + 4}" {stroke}/>' for end in ends]
    return [*parts, mark(row.colour, x(row.value), y, 4.5)]


def _short(text: str) -> Markup:
    """Return text that fits into the drawing; the readout has it whole."""
    return escape(text if len(text) <= LETTERS else f"{text[: LETTERS - 1]}…")


def _reference(at: float, bottom: float) -> str:
    return f'<line class="reference" x1="{at}" x2="{at}" y1="0" y2="{bottom}"/>'


def _told(row: Row) -> str:
    if row.value is None:
        return f"{row.label}: no value"
    ends = f" ({number(row.interval[0])} to {number(row.interval[1])})" if row.interval else ""
    return f"{row.label}: {number(row.value)}{ends}".removeprefix(": ")
