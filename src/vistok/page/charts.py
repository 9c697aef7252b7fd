"""Charts as SVG inside a page: light to make at every validation, themed by the page, read out under the pointer."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup, escape

from vistok.page.colours import variable

WIDTH, HEIGHT = 440, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 40
MOST_POINTS = 300  # of a series; a chart is never drawn with more pixels


@dataclass(frozen=True)
class Series:
    """Points (x, y) in the order of x: a line, or marks with `marks`.

    `colour` is the number of a series' colour (`colours.py`). `low` and `high` are the ends of intervals, drawn as bars on
    marks and as a band around a line. `texts` is what the readout says of each point; default: label, x and y.
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


@dataclass(frozen=True)
class Chart:
    """Series over one pair of axes. `floors` are labelled horizontal lines: what cannot be passed."""

    title: str
    series: Sequence[Series]
    x_label: str = "step"
    y_label: str = ""
    x_log: bool = False
    y_log: bool = False
    floors: dict[str, float] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(len(series.xs) for series in self.series)

    def figure(self) -> Markup:
        """Return the chart with its title, its legend and a line that reads out the point under the pointer."""
        named = [series for series in self.series if series.label and not series.faint]
        legend = Markup("").join(
            Markup('<span><span class="swatch" style="background:{}"></span>{}</span>').format(
                variable(series.colour), series.label
            )
            for series in named
        )
        return Markup(
            '<figure><div class="chart-title">{}</div><div class="legend">{}</div>{}<div class="readout"></div></figure>'
        ).format(self.title, legend if len(named) > 1 else "", Markup(self.svg()))

    def svg(self) -> str:
        """Return the drawing alone."""
        drawn = [_thinned(series) for series in self.series]
        xs = [x for series in drawn for x in series.xs]
        ys = [y for series in drawn for y in (*series.ys, *series.low, *series.high)] + list(self.floors.values())
        x, y = _Axis.of(xs, self.x_log, LEFT, WIDTH - RIGHT), _Axis.of(ys, self.y_log, HEIGHT - BOTTOM, TOP)
        points = [point for series in drawn for point in _readouts(series, x, y, self.x_label)]
        vertical = 1 if any(series.marks for series in drawn) else 0.05
        parts = [
            f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(self.title)}" '
            f'data-vertical="{vertical}" data-points="{escape(json.dumps(points))}">',
            *_grid(x, y, self.x_label, self.y_label),
            *(_floor(label, y(value)) for label, value in self.floors.items()),
            *(part for series in drawn for part in _drawing(series, x, y)),
            f'<line class="cursor" y1="{TOP}" y2="{HEIGHT - BOTTOM}" style="display:none"/></svg>',
        ]
        return "".join(parts)


@dataclass(frozen=True)
class _Axis:
    """A scale from values to pixels."""

    low: float
    high: float
    log: bool
    start: float
    end: float

    @classmethod
    def of(cls, values: Sequence[float], log: bool, start: float, end: float) -> "_Axis":
        finite = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
        if log:
            low, high = (low or 1.0), (high or 1.0)
            margin = max((high / low) ** 0.04, 1.05)
            return cls(low / margin, high * margin, True, start, end)
        margin = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
        return cls(low - margin if low < 0 or low > margin else 0.0, high + margin, False, start, end)

    def __call__(self, value: float) -> float:
        if self.log:
            value = max(value, self.low)
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, most: int) -> list[float]:
        if self.log:
            return _log_ticks(self.low, self.high, most)
        step = _nice((self.high - self.low) / most)
        first = math.ceil(self.low / step)
        return [number * step for number in range(first, math.floor(self.high / step) + 1)]


def _nice(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * part for part in (1, 2, 2.5, 5, 10) if power * part >= step * 0.999)


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for parts in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [part * 10.0**decade for decade in decades for part in parts if low <= part * 10.0**decade <= high]
        if len(ticks) <= most:
            break
    if len(ticks) > most:
        return ticks[:: -(-len(ticks) // most)]
    return ticks if len(ticks) > 1 else [low * (high / low) ** share for share in (0.1, 0.5, 0.9)]


def number(value: float) -> str:
    """Return a number for an axis or a readout: at most four digits, powers of ten beyond a million."""
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-4:
        return f"{value:.3g}".replace("e+0", "e").replace("e-0", "e-").replace("e+", "e")
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _thinned(series: Series) -> Series:
    """Return a series with at most `MOST_POINTS` points, the last one among them."""
    count = len(series.xs)
    kept = [i for i in range(count) if math.isfinite(series.xs[i]) and math.isfinite(series.ys[i])]
    if len(kept) > MOST_POINTS:
        stride = -(-len(kept) // MOST_POINTS)
        kept = sorted({*kept[::stride], kept[-1]})
    take: Callable[[Sequence[Any]], list[Any]] = lambda values: [values[i] for i in kept] if len(values) else []  # noqa: E731
    return Series(
        series.label, take(series.xs), take(series.ys), series.colour, series.marks, series.faint,
        take(series.low), take(series.high), take(series.texts), take(series.sizes),
    )  # fmt: skip


def _readouts(series: Series, x: _Axis, y: _Axis, x_label: str) -> list[dict[str, Any]]:
    if series.faint:
        return []
    texts = series.texts or [
        f"{series.label} {number(b)} at {x_label} {number(a)}" for a, b in zip(series.xs, series.ys, strict=True)
    ]
    return [{"x": x(a), "y": y(b), "text": text} for a, b, text in zip(series.xs, series.ys, texts, strict=True)]


def _grid(x: _Axis, y: _Axis, x_label: str, y_label: str) -> list[str]:
    parts = []
    for value in y.ticks(5):
        at = y(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4}" text-anchor="end">{number(value)}</text>')
    for value in x.ticks(6):
        parts.append(f'<text x="{x(value)}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{number(value)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{escape(x_label)}</text>')
    if y_label:
        height = (TOP + HEIGHT - BOTTOM) / 2
        parts.append(
            f'<text transform="translate(11 {height}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
        )
    return parts


def _floor(label: str, at: float) -> str:
    return (
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at}" y2="{at}" stroke="var(--quiet)" stroke-dasharray="6 4"/>'
        f'<text x="{WIDTH - RIGHT}" y="{at - 4}" text-anchor="end">{escape(label)}</text>'
    )


def _drawing(series: Series, x: _Axis, y: _Axis) -> list[str]:
    colour, opacity = variable(series.colour), 0.35 if series.faint else 1
    xs, ys = [x(value) for value in series.xs], [y(value) for value in series.ys]
    if series.marks:
        return _marks(series, xs, ys, y, f'opacity="{opacity}"')
    parts = []
    if series.low and series.high:
        upper = [f"{a},{y(b)}" for a, b in zip(xs, series.high, strict=True)]
        lower = [f"{a},{y(b)}" for a, b in zip(xs, series.low, strict=True)]
        parts.append(f'<polygon points="{" ".join([*upper, *reversed(lower)])}" fill="{colour}" opacity="0.15"/>')
    line = " ".join(f"{a},{b}" for a, b in zip(xs, ys, strict=True))
    width = 1 if series.faint else 1.8
    parts.append(
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="{width}" opacity="{opacity}" '
        'stroke-linejoin="round"/>'
    )
    if len(xs) == 1:  # a line of one point cannot be seen
        parts.append(f'<circle cx="{xs[0]}" cy="{ys[0]}" r="3.5" fill="{colour}"/>')
    return parts


def _marks(series: Series, xs: list[float], ys: list[float], y: _Axis, how: str) -> list[str]:
    colour = variable(series.colour)
    bars = [
        f'<line x1="{a}" x2="{a}" y1="{y(low)}" y2="{y(high)}" stroke="{colour}" stroke-width="1.2" {how}/>'
        for a, low, high in zip(xs, series.low, series.high, strict=False)
    ]
    sizes = series.sizes or [4.0] * len(xs)
    dots = [
        f'<circle cx="{a}" cy="{b}" r="{size:.1f}" fill="{colour}" {how}/>'
        for a, b, size in zip(xs, ys, sizes, strict=True)
    ]
    return bars + dots
