"""Charts as SVG inside a page: light to make at every validation, themed by the page, read out under the pointer."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from markupsafe import Markup, escape

from vistok.page.axes import Axis, number
from vistok.page.colours import variable
from vistok.page.marks import legend_mark, mark

# In units of the drawing, whose text is 13 high: on a phone's 360 pixels it is still 11.5 high.
WIDTH, HEIGHT = 400, 270
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 26, 42
DIGIT = 7.2  # width of a digit
MOST_POINTS = 300  # of a series; a chart is never drawn with more pixels


@dataclass(frozen=True)
class Series:
    """Points (x, y) in the order of x: a line, or marks with `marks`.

    `colour` is the number of a series' colour (`colours.py`), with which goes the shape of its marks. `low` and `high` are the
    ends of intervals, drawn as bars on marks and as a band around a line. `texts` is what the readout says of each point;
    default: label, x and y. What is `faint` is background: neither in the legend nor read out.
    """

    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    colour: int = 0
    marks: bool = False
    faint: bool = False
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    texts: Sequence[str] = ()
    sizes: Sequence[float] = ()
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """Series over one pair of axes.

    `floors` are labelled horizontal lines: what cannot be passed. `x_ticks` are labels with their places, instead of round
    numbers. `within` are points that the axes must reach, too, so that charts beside each other have one scale.
    """

    title: str
    series: Sequence[Series]
    x_label: str = "step"
    y_label: str = ""
    x_log: bool = False
    y_log: bool = False
    floors: dict[str, float] = field(default_factory=dict)
    x_ticks: dict[str, float] = field(default_factory=dict)
    within: Sequence[tuple[float, float]] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(len(series.xs) for series in self.series)

    def figure(self) -> Markup:
        """Return the chart with its title, its legend and a line that reads out the point under the pointer."""
        named = {s.label: s for s in reversed(self.series) if s.label and not s.faint}
        legend = Markup("").join(
            Markup("<span>{}{}</span>").format(Markup(_sample(series)), label)
            for label, series in reversed(named.items())
        )
        return Markup(
            '<figure><div class="chart-title">{}</div><div class="legend">{}</div>{}<div class="readout"></div></figure>'
        ).format(self.title, legend if len(named) > 1 else "", Markup(self.svg()))

    def svg(self) -> str:
        """Return the drawing alone."""
        drawn = [_thinned(series) for series in self.series]
        xs = [x for series in drawn for x in series.xs] + [x for x, _ in self.within]
        ys = [y for series in drawn for y in (*series.ys, *series.low, *series.high)] + list(self.floors.values())
        ys += [y for _, y in self.within]
        x, y = Axis.of(xs, self.x_log, LEFT, WIDTH - RIGHT), Axis.of(ys, self.y_log, HEIGHT - BOTTOM, TOP)
        points = [point for series in drawn for point in _readouts(series, x, y, self.x_label)]
        vertical = 1 if any(series.marks for series in drawn) else 0.05
        parts = [
            f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(self.title)}" '
            f'data-vertical="{vertical}" data-points="{escape(json.dumps(points))}">',
            *_grid(x, y, self),
            *(_floor(label, y(value)) for label, value in self.floors.items()),
            *(part for series in drawn for part in _drawing(series, x, y)),
            f'<line class="cursor" y1="{TOP}" y2="{HEIGHT - BOTTOM}" style="display:none"/></svg>',
        ]
        return "".join(parts)


def _thinned(series: Series) -> Series:
    """Return a series with at most `MOST_POINTS` points, the last one among them."""
    count = len(series.xs)
    kept = [i for i in range(count) if math.isfinite(series.xs[i]) and math.isfinite(series.ys[i])]
    if len(kept) > MOST_POINTS:
        stride = -(-len(kept) // MOST_POINTS)
        kept = sorted({*kept[::stride], kept[-1]})

    def take(values: Sequence[Any]) -> list[Any]:
        return [values[i] for i in kept] if len(values) else []

    return replace(
        series, xs=take(series.xs), ys=take(series.ys), low=take(series.low), high=take(series.high),
        texts=take(series.texts), sizes=take(series.sizes),
    )  # fmt: skip


def _readouts(series: Series, x: Axis, y: Axis, x_label: str) -> list[dict[str, Any]]:
    if series.faint:
        return []
    texts = series.texts or [
        f"{series.label} {number(b)} at {x_label} {number(a)}" for a, b in zip(series.xs, series.ys, strict=True)
    ]
    return [{"x": x(a), "y": y(b), "text": text} for a, b, text in zip(series.xs, series.ys, texts, strict=True)]


def _grid(x: Axis, y: Axis, chart: Chart) -> list[str]:
    parts = []
    for value in y.ticks(5):
        at = y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4}" text-anchor="end">{number(value)}</text>')
    for label, at in _x_labels(x, chart.x_ticks):
        parts.append(f'<text x="{at}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{escape(label)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(chart.x_label)}</text>')
    if chart.y_label not in ("", chart.title):
        parts.append(f'<text x="2" y="12">{escape(chart.y_label)}</text>')
    return parts


def _x_labels(x: Axis, given: dict[str, float]) -> list[tuple[str, float]]:
    """Return labels and places along the horizontal axis; of those that would touch, the left one."""
    labels = [(label, x(value)) for label, value in given.items()] or [(number(v), x(v)) for v in x.ticks(6)]
    kept: list[tuple[str, float]] = []
    end = 0.0
    for label, at in sorted(labels, key=lambda one: one[1]):
        half = len(label) * DIGIT / 2
        if at - half >= end or not kept:
            kept.append((label, min(at, WIDTH - half)))
            end = at + half + DIGIT
    return kept


def _floor(label: str, at: float) -> str:
    return (
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}" stroke="var(--quiet)" stroke-dasharray="6 4"/>'
        f'<text x="{WIDTH - RIGHT}" y="{at - 4}" text-anchor="end">{escape(label)}</text>'
    )


def _drawing(series: Series, x: Axis, y: Axis) -> list[str]:
    colour, opacity = variable(series.colour), 0.45 if series.faint else 1
    xs, ys = [x(value) for value in series.xs], [y(value) for value in series.ys]
    if series.marks:
        return _marks(series, xs, ys, y, opacity)
    parts = []
    if series.low and series.high:
        upper = [f"{a},{y(b)}" for a, b in zip(xs, series.high, strict=True)]
        lower = [f"{a},{y(b)}" for a, b in zip(xs, series.low, strict=True)]
        parts.append(f'<polygon points="{" ".join([*upper, *reversed(lower)])}" fill="{colour}" opacity="0.15"/>')
    line = " ".join(f"{a},{b}" for a, b in zip(xs, ys, strict=True))
    width = 1.2 if series.faint else 1.8
    dashes = ' stroke-dasharray="5 4"' if series.dashed else ""
    parts.append(
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{width}" opacity="{opacity}" '
        f'stroke-linejoin="round"{dashes}/>'
    )
    if len(xs) == 1:  # a line of one point cannot be seen
        parts.append(mark(series.colour, xs[0], ys[0], 3.5))
    return parts


def _marks(series: Series, xs: list[float], ys: list[float], y: Axis, opacity: float) -> list[str]:
    bars = [
        f'<line x1="{a}" x2="{a}" y1="{y(low)}" y2="{y(high)}" stroke="{variable(series.colour)}" stroke-width="1.4" '
        f'opacity="{opacity}"/>'
        for a, low, high in zip(xs, series.low, series.high, strict=False)
    ]
    sizes = series.sizes or [4.0] * len(xs)
    return bars + [mark(series.colour, *point, opacity) for point in zip(xs, ys, sizes, strict=True)]


def _sample(series: Series) -> str:
    """Return what stands for a series in the legend."""
    if series.marks:
        return legend_mark(series.colour)
    return f'<span class="swatch" style="background:{variable(series.colour)}"></span>'
