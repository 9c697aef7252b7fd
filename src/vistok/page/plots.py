"""Figures by matplotlib, for PNG files; pages have charts of their own (`charts.py`).

matplotlib is loaded when the first figure is drawn. Its `pyplot` is left alone, so that a notebook's own figures keep their
backend and their style.
"""

import io
from collections.abc import Callable
from typing import Any

from vistok.page.colours import SERIES

INK, QUIET = "#1a1c1f", "#5b6068"


def png_of(draw: Callable[[Any], None], size: tuple[float, float]) -> bytes:
    """Return the PNG of a figure of this size (inches), which `draw` fills."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_style()):  # type: ignore[arg-type]
        figure = Figure(figsize=size)
        FigureCanvasAgg(figure)
        draw(figure)
        for axes in figure.axes:
            axes.spines[["top", "right"]].set_visible(False)
        figure.tight_layout()
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def _style() -> dict[str, Any]:
    from cycler import cycler

    return {
        "font.size": 11,
        "text.color": INK,
        "axes.labelcolor": QUIET,
        "axes.edgecolor": QUIET,
        "xtick.color": QUIET,
        "ytick.color": QUIET,
        "axes.prop_cycle": cycler(color=SERIES),
    }
