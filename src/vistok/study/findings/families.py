"""Families of generators side by side: what each reaches on each kind of tokens, and what an image of it costs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from vistok.page.axes import number as short
from vistok.page.charts import Chart, Series
from vistok.page.colours import SERIES
from vistok.page.tables import Table
from vistok.study.findings.arms import Arms
from vistok.study.findings.by_scale import with_fewer_steps
from vistok.study.findings.claim_data import by_family, length_in_words
from vistok.study.findings.figures import joined, means_of_cells
from vistok.study.findings.fit import frontier
from vistok.study.findings.image_cost import COLUMNS, IN_FULL, Unit
from vistok.study.findings.purses_figure import by_purse
from vistok.study.findings.tables import mean, number, plus_minus

# The frontier's colour, which no tokenizer has: grey.
GREY = len(SERIES) - 1


@dataclass(frozen=True)
class Families:
    """What each family reaches for both purses, its longest trainings in charts of their own, and a table of all pairs.

    Charts are left out where costs are not known, and those of single families where there are more tokenizers than colours. `by_steps`:
    whether runs were scored in several numbers of steps.
    """

    purses: Markup | None
    by_steps: bool
    charts: Markup | None
    table: Table


def families(rows: pd.DataFrame, arms: Arms) -> Families | None:
    """Return the families among all grids' generators; None where there is only one."""
    found = {family: of[of.length == of.length.max()] for family, of in by_family(rows).items()}
    if len(found) < 2:
        return None
    cost = next((unit for unit, column in COLUMNS.items() if column in rows and rows[column].notna().all()), None)
    colours = {family: _colours(of, arms) for family, of in found.items()}
    charts = joined(_charts(found, colours, cost)) if cost and all(colours.values()) else None
    purses = by_purse(rows, arms)
    by_steps = "gfmd_by_steps" in rows and bool(rows.gfmd_by_steps.notna().any())
    return Families(joined(purses) if purses else None, by_steps, charts, _table(found))


def _charts(found: dict[str, pd.DataFrame], colours: dict[str, dict[str, int]], unit: Unit) -> list[Chart]:
    """Return a chart for each family, all on one scale, each with the frontier of all: pairs that no cheaper one matches."""
    series = {family: _marks(rows, colours[family], COLUMNS[unit]) for family, rows in found.items()}
    drawn = [one for of in series.values() for one in of]
    best = _frontier([point for one in drawn for point in zip(one.xs, one.ys, strict=True)])
    reach = [point for one in drawn for ends in (one.low, one.high) for point in zip(one.xs, ends, strict=True)]
    return [
        Chart(
            family,
            [best, *of],
            f"{IN_FULL[unit]} an image",
            "gFMD (chosen guidance)",
            x_log=True,
            y_log=True,
            within=reach,
        )
        for family, of in series.items()
    ]


def _marks(rows: pd.DataFrame, colours: dict[str, int], column: str) -> list[Series]:
    """Return each tokenizer's pairs in its colour, one for each number of steps."""
    rows = with_fewer_steps(rows)
    return [
        means_of_cells(rows[rows.tokenizer_choice == name], "gfmd", name, colour, column)
        for name, colour in colours.items()
    ]


def _colours(rows: pd.DataFrame, arms: Arms) -> dict[str, int]:
    """Return each tokenizer's colour, that of the other figures; where two have one, the rest gets what the main grid leaves.

    Empty where that is not enough.
    """
    names = [name for name in arms.all if (rows.tokenizer_choice == name).any()]
    taken = {name: arms.colour(name) for name in names}
    if len(set(taken.values())) == len(names):
        return taken
    rest = [name for name in names if name not in arms.main]
    free = [colour for colour in range(GREY) if colour not in map(arms.colour, arms.main)]
    taken |= dict(zip(rest, free, strict=False))
    return taken if len(set(taken.values())) == len(names) else {}


def _frontier(points: Sequence[tuple[float, float]]) -> Series:
    xs, ys = zip(*points, strict=True)
    kept = frontier(list(xs), list(ys))
    return Series("", [xs[i] for i in kept], [ys[i] for i in kept], GREY, faint=True, dashed=True)


def _table(found: dict[str, pd.DataFrame]) -> Table:
    """Return every pair of tokenizer and generator: gFMD, and calls, milliseconds and FLOPs of an image; the best first."""
    pairs = [
        (family, str(name), str(generator), runs)
        for family, rows in found.items()
        for (name, generator), runs in rows.groupby(["tokenizer_choice", "choice"])
    ]
    pairs.sort(key=lambda pair: mean(pair[3].gfmd))
    head = [
        "tokenizer",
        "family",
        "generator",
        "trained for",
        "seeds",
        "rFMD",
        "gFMD",
        "guidance",
        "calls",
        "ms",
        "FLOPs",
    ]
    shown: list[list[str | Markup]] = [
        [
            name, family, generator, length_in_words(runs), str(len(runs)), plus_minus(runs.rfmd), plus_minus(runs.gfmd),
            number(mean(runs.guidance_scale), 2), _cost(runs, "calls"), _cost(runs, "ms_per_image"), _cost(runs, "flops_per_image"),
        ]
        for family, name, generator, runs in pairs
    ]  # fmt: skip
    return Table(head, shown, words=(0, 1, 2, 3), dense=True)


def _cost(runs: pd.DataFrame, column: str) -> str:
    cost = mean(runs[column]) if column in runs else math.nan
    return "" if math.isnan(cost) else short(float(f"{cost:.3g}"))
