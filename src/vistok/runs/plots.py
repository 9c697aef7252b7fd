"""Plots for self-contained pages; matplotlib is loaded when the first one is drawn."""

import base64
import io
from typing import Any


def pyplot() -> Any:
    """Return matplotlib's pyplot, set up to need no display and to give the same bytes for the same figure."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "vistok"
    return pyplot


def plot_uri(figure: Any) -> str:
    """Close a figure and return it as an SVG data URI."""
    from matplotlib import pyplot

    for axis in figure.axes:
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
