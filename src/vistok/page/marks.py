"""Marks of a series: with its colour goes a shape, so that a print without colours and colour-blind readers keep it."""

import math

from vistok.page.colours import variable

# Corners around the middle, by series; none is a circle. Each has about the circle's area at the same size.
_SHAPES: tuple[tuple[tuple[float, float], ...], ...] = (
    (),
    ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
    ((0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)),
    ((0, -1.3), (1.25, 0.95), (-1.25, 0.95)),
    ((0, 1.3), (1.25, -0.95), (-1.25, -0.95)),
    tuple((1.15 * math.sin(turn * math.tau / 5), -1.15 * math.cos(turn * math.tau / 5)) for turn in range(5)),
    ((-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4), (0.4, 1.2), (-0.4, 1.2), (-0.4, 0.4),
     (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4)),
    ((-1.3, 0), (0.95, -1.25), (0.95, 1.25)),
)  # fmt: skip


def mark(series: int, x: float, y: float, size: float, opacity: float = 1) -> str:
    """Return a series' mark as an SVG element; `size` is a circle's radius in pixels."""
    corners = _SHAPES[series % len(_SHAPES)]
    look = f'fill="{variable(series)}"' + (f' opacity="{opacity:g}"' if opacity < 1 else "")
    if not corners:
        return f'<circle cx="{x:g}" cy="{y:g}" r="{size:.3g}" {look}/>'
    points = " ".join(f"{x + size * a:.4g},{y + size * b:.4g}" for a, b in corners)
    return f'<polygon points="{points}" {look}/>'


def legend_mark(series: int) -> str:
    """Return a series' mark for a legend, as a small picture of its own."""
    return f'<svg class="legend-mark" viewBox="0 0 12 12" aria-hidden="true">{mark(series, 6, 6, 4.2)}</svg>'
