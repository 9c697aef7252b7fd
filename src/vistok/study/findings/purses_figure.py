"""What families of generators reach for both purses: gFMD against the compute of training, and against that of an image."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from vistok.page.charts import Chart, Series
from vistok.page.colours import SERIES
from vistok.study.findings.arms import Arms
from vistok.study.findings.by_scale import with_fewer_steps
from vistok.study.findings.claim_data import by_family
from vistok.study.findings.figures import means_of_cells
from vistok.study.findings.fit import frontier

# Purse -> column of the table, title, and what the horizontal axis says.
PURSES = (
    ("total_flops", "For the compute of training", "training FLOPs of both stages"),
    ("flops_per_image", "For the compute of an image", "FLOPs an image"),
)


def by_purse(rows: pd.DataFrame, arms: Arms) -> list[Chart]:
    """Return a chart for each purse whose costs are known: all pairs of tokenizer and generator, and each family's frontier.

    An image's chart has a mark for each number of steps in which a run was scored.
    """
    colours = _colours(list(by_family(rows)), arms)
    charts = []
    for column, title, label in PURSES:
        if column not in rows or rows[column].isna().any():
            continue
        priced = with_fewer_steps(rows) if column == "flops_per_image" else rows
        series = [
            one
            for family, of in by_family(priced).items()
            for one in _of_family(family, of, arms, colours[family], column)
        ]
        charts.append(Chart(title, series, label, "gFMD (chosen guidance)", x_log=True, y_log=True))
    return charts


def _colours(families: Sequence[str], arms: Arms) -> dict[str, int]:
    """Give each family a colour that no arm of the main grid has, while any are left."""
    mine = {arms.colour(name) for name in arms.main}
    order = sorted(range(len(SERIES) - 1), key=lambda number: number in mine)
    return {family: order[i % len(order)] for i, family in enumerate(families)}


def _of_family(family: str, rows: pd.DataFrame, arms: Arms, colour: int, column: str) -> list[Series]:
    """Return all pairs as small marks, and those that no cheaper one matches with their intervals, joined by a line."""
    points: list[tuple[Any, ...]] = []
    for name in arms.all:
        if len(runs := rows[rows.tokenizer_choice == name]):
            of = means_of_cells(runs, "gfmd", name, colour, column)
            points += zip(of.xs, of.ys, of.low, of.high, of.texts, strict=True)
    points.sort(key=lambda point: point[0])
    xs, ys, *_, texts = zip(*points, strict=True)
    best = [points[i] for i in frontier(list(xs), list(ys))]
    x, y, low, high, said = zip(*best, strict=True)
    return [
        Series("", xs, ys, colour, True, texts=texts, sizes=[2.0] * len(xs)),
        Series("", x, y, colour, faint=True),
        Series(family, x, y, colour, True, False, low, high, said, [3.6] * len(x)),
    ]
