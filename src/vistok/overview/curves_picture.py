"""A run's charts and its newest sheet as one matplotlib figure, for a PNG."""

import io
from functools import partial
from typing import Any

from vistok.data.images.image_file import open_image
from vistok.overview.record import RunRecord
from vistok.page.charts import Chart
from vistok.page.colours import SERIES
from vistok.page.plots import png_of
from vistok.runs.curves import charts_of

COLUMNS = 3


def picture_of(record: RunRecord) -> bytes:
    """Return the PNG: a panel for each chart, below the newest sheet of pictures if there is one."""
    rows = max(1, -(-len(charts_of(record.rows, record.kind)) // COLUMNS)) + bool(record.pictures)
    return png_of(partial(_fill, record), (4.2 * COLUMNS, 2.7 * rows + 0.4))


def _fill(record: RunRecord, figure: Any) -> None:
    charts, sheets = charts_of(record.rows, record.kind), record.pictures
    rows = max(1, -(-len(charts) // COLUMNS))
    places = figure.add_gridspec(rows + bool(sheets), COLUMNS)
    if sheets:
        axes = figure.add_subplot(places[0, :])
        axes.imshow(open_image(io.BytesIO(sheets[-1].read_bytes())), interpolation="nearest")
        axes.set_axis_off()
    for number, chart in enumerate(charts):
        axes = figure.add_subplot(places[bool(sheets) + number // COLUMNS, number % COLUMNS])
        _draw(axes, chart)
    figure.suptitle(record.name)


def _draw(axes: Any, chart: Chart) -> None:
    for series in chart.series:
        alpha = 0.35 if series.faint else 1
        axes.plot(
            series.xs, series.ys, color=SERIES[series.colour % len(SERIES)], lw=1.3, alpha=alpha, label=series.label
        )
    axes.set_title(chart.title, fontsize=10)
    axes.set_xlabel(chart.x_label, fontsize=9)
    axes.tick_params(labelsize=8)
    if chart.y_log:
        axes.set_yscale("log")
    if len(chart.series) > 1:
        axes.legend(frameon=False, fontsize=7, loc="upper right")
