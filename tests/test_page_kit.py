"""Charts, intervals, maps and tables of pages: where things are drawn, what is read out, and that names are text."""

import json
import math
import re

import pytest
from markupsafe import Markup

from html_checks import Page
from vistok.page.axes import Axis, number
from vistok.page.charts import WIDTH, Chart, Series
from vistok.page.colours import SERIES
from vistok.page.intervals import Row, Rows, interval_bar
from vistok.page.maps import Map
from vistok.page.marks import mark
from vistok.page.tables import Table

EVIL = '"><script>alert(1)</script>&'


def points_of(markup: str) -> list[dict]:
    (drawing,) = [attrs for attrs in Page(str(markup)).all("svg") if "data-points" in attrs]
    return json.loads(drawing["data-points"])


@pytest.mark.parametrize(
    "figure",
    [
        Chart(EVIL, [Series(EVIL, [1, 2], [3, 4]), Series("b", [1], [2], 1, True)], EVIL, EVIL + EVIL, floors={EVIL: 1}, x_ticks={EVIL: 1}),
        Rows(EVIL, [Row(EVIL, 1.0, 0.5, 2.0, text=EVIL)], EVIL, references={EVIL: 1.0}),
        Map(EVIL, [[1.0, -1.0]], EVIL),
    ],
)  # fmt: skip
def test_names_are_text(figure):
    markup = str(figure.figure())
    page = Page(markup)
    assert not page.errors and not page.all("script") and "alert(1)" in markup
    assert [attrs["aria-label"] for attrs in page.all("svg") if "data-points" in attrs] == [EVIL]


def test_a_table_of_names_is_text_and_its_cells_know_their_headings():
    table = Table([Markup("<i>mark</i> arm"), EVIL], [[EVIL, Markup("<b>1</b>")]])
    page = Page(str(table.html()))
    assert not page.errors and not page.all("script") and len(page.all("b")) == 1
    assert [cell["data-label"] for cell in page.all("td")] == ["mark arm", EVIL]


def test_a_chart_reads_out_its_points_where_they_are_drawn():
    chart = Chart("t", [Series("a", [1, 10, 100], [1.0, 0.1, 0.01], marks=True)], "x", "y", x_log=True, y_log=True)
    points = points_of(chart.figure())
    steps = [b["x"] - a["x"] for a, b in zip(points, points[1:], strict=False)]
    assert steps[0] == pytest.approx(steps[1], abs=0.2) and points[0]["y"] < points[1]["y"] < points[2]["y"]
    assert points[1]["text"] == "a 0.1 at x 10"
    drawn = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', chart.svg())
    assert [(float(x), float(y)) for x, y in drawn] == [(p["x"], p["y"]) for p in points]


def test_what_cannot_be_drawn_is_left_out():
    chart = Chart("t", [Series("a", [1, 2, 3], [math.nan, 1.0, math.inf]), Series("b", [], [])], y_log=True)
    assert len(points_of(chart.figure())) == 1 and "nan" not in chart.svg() and "inf" not in chart.svg()
    assert Chart("t", [Series("b", [], [])]).empty and not chart.empty
    assert "nan" not in str(Map("m", [[math.nan, 1.0]]).figure())
    bar = str(interval_bar(Row("", 1.0, -math.inf, math.inf), {"0": 0.0}))
    assert "inf" not in bar.replace("interval", "") and bar.count("<line") == 2


def test_background_is_neither_named_nor_read_out():
    chart = Chart(
        "t",
        [Series("a", [1], [1]), Series("a", [1], [2]), Series("b", [1], [3], 1), Series("seeds", [1], [4], faint=True)],
    )
    legend = str(chart.figure()).partition('class="legend">')[2].partition("<svg class=")[0]
    assert legend.count(">a<") == legend.count(">b<") == 1 and "seeds" not in legend
    assert len(points_of(chart.figure())) == 3


def test_floors_are_inside_the_axes():
    chart = Chart("t", [Series("a", [1, 2], [5.0, 6.0])], y_log=True, floors={"floor": 0.5})
    (at,) = re.findall(r'y1="([\d.]+)" y2="[\d.]+" stroke="var\(--quiet\)"', chart.svg())
    assert float(at) < 270 - 42


def test_labels_of_an_axis_do_not_touch():
    names = {f"{value:g}": math.log10(value) for value in (0.1, 0.25, 0.4, 1, 1.6, 4, 6.4, 16)}
    svg = Chart("t", [Series("a", list(names.values()), [1] * len(names))], x_ticks=names).svg()
    labels = [
        (float(x), text) for x, text in re.findall(r'<text x="([\d.]+)" y="245" text-anchor="middle">([^<]+)<', svg)
    ]
    assert 4 <= len(labels) < len(names)
    for (x, text), (after, later) in zip(labels, labels[1:], strict=False):
        assert after - x >= 7.2 * (len(text) + len(later)) / 2
    assert labels[-1][0] <= WIDTH


@pytest.mark.parametrize(
    "low, high, log",
    [
        (0.38, 0.47, False),
        (1e12, 4e13, True),
        (0.97, 1.02, True),
        (0.88, 1.1, True),
        (2.0, 2.6, True),
        (5, 5, True),
        (0, 0, False),
        (-3, -1, False),
    ],
)
def test_axes_have_a_few_ticks_inside_them(low, high, log):
    axis = Axis.around([low, high], log, 0, 100)
    ticks = axis.ticks(6)
    assert 2 <= len(ticks) <= 8 and all(axis.low <= tick <= axis.high for tick in ticks)
    assert len({number(tick) for tick in ticks}) == len(ticks)
    assert all(len(number(tick).lstrip("-")) <= 5 for tick in ticks), "round numbers, of narrow scales, too"
    assert 0 <= axis(low) <= axis(high) <= 100


def test_an_interval_lies_beside_its_margin():
    bar = str(interval_bar(Row("", 1.2, 1.1, 1.5), {"1": 1.0}, log=True, beside=[Row("", 3.0, 2.0, 4.0)]))
    (margin,) = re.findall(r'class="reference" x1="([\d.]+)"', bar)
    low, high = (float(x) for x in re.findall(r'<line x1="([\d.]+)" x2="([\d.]+)" y1="13', bar)[0])
    alone = str(interval_bar(Row("", 1.2, 1.1, 1.5), {"1": 1.0}, log=True))
    assert float(margin) < low < high < 230 / 2 and alone != bar


def test_a_map_tells_gains_from_losses_by_colour():
    svg = Map("m", [[2.0, -1.0], [0.0, 1.0]], "nats", above=3, below=0).svg()
    cells = re.findall(r'fill="var\(--series-(\d)\)" opacity="([\d.]+)"/>', svg)[:4]
    assert cells == [("3", "1.000"), ("0", "0.500"), ("0", "0.000"), ("3", "0.500")]
    assert "row 0, column 1: -1 nats" in [point["text"] for point in points_of(svg)]


def test_each_series_has_a_shape_of_its_own():
    shapes = [re.sub(r"--series-\d", "", mark(series, 0, 0, 4)) for series in range(len(SERIES))]
    assert len(set(shapes)) == len(SERIES)
