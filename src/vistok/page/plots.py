"""Figures by matplotlib, for what the page's own charts don't draw (maps, bars), and for PNG files.

matplotlib is loaded when the first figure is drawn.
"""

import io
import re
from typing import Any

from markupsafe import Markup

from vistok.page.colours import SERIES

# What matplotlib draws in, and what a page turns each colour into, so that figures follow its theme.
INK, QUIET = "#1a1c1f", "#5b6068"
_THEMED = {INK: "var(--ink)", QUIET: "var(--quiet)"} | {c: f"var(--series-{i})" for i, c in enumerate(SERIES)}


class _Plots:
    """Makes figures as pyplot does, without pyplot: a notebook's own figures keep their backend and their style."""

    def figure(self, **options: Any) -> Any:
        """Return a new figure. The pages' style holds until it is closed, as axes and ticks are drawn late."""
        import matplotlib
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        style = matplotlib.rc_context(_style())  # type: ignore[arg-type]
        style.__enter__()
        figure = Figure(**options)
        FigureCanvasAgg(figure)
        figure.vistok_style = style  # type: ignore[attr-defined]
        return figure

    def subplots(self, *shape: int, figsize: tuple[float, float] | None = None, **options: Any) -> tuple[Any, Any]:
        """Return a new figure and its axes."""
        figure = self.figure(figsize=figsize)
        return figure, figure.subplots(*shape, **options)


def pyplot() -> _Plots:
    """Return what makes figures: they need no display, and the same figure gives the same bytes."""
    return _Plots()


def _style() -> dict[str, Any]:
    from cycler import cycler

    return {
        "svg.hashsalt": "vistok",
        "svg.fonttype": "none",  # text stays text: sharp, searchable, in the page's font
        "font.size": 11,
        "text.color": INK,
        "axes.labelcolor": QUIET,
        "axes.edgecolor": QUIET,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
        "axes.prop_cycle": cycler(color=SERIES),
    }


def inline_svg(figure: Any, title: str) -> Markup:
    """Close a figure and return it as SVG for a page: it has the page's colours, also in dark mode."""
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    text = _finished(figure, "svg", metadata=nothing, transparent=True).decode()
    opening, rest = text[text.index("<svg") :].split(">", 1)
    for colour, themed in _THEMED.items():
        rest = re.sub(rf"(?<=: ){colour}", themed, rest, flags=re.IGNORECASE)
    # Sizes in points would win over the page's width.
    view = re.sub(r' (width|height)="[^"]*"', "", opening.removeprefix("<svg"))
    return Markup('<svg class="chart plot" role="img" aria-label="{}"{}>{}').format(title, Markup(view), Markup(rest))


def png_of(figure: Any) -> bytes:
    """Close a figure and return it as a PNG."""
    return _finished(figure, "png", dpi=110)


def _finished(figure: Any, kind: str, **options: Any) -> bytes:
    try:
        for axis in figure.axes:
            axis.spines[["top", "right"]].set_visible(False)
        figure.tight_layout()
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, **options)
        return buffer.getvalue()
    finally:
        figure.vistok_style.__exit__(None, None, None)
