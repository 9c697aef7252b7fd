"""A study's figures: arms in one colour each, every seed's run, intervals over seeds, and the floor of each tokenizer."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from markupsafe import Markup

from vistok.page.axes import number
from vistok.page.charts import Chart, Series
from vistok.page.intervals import Row, Rows
from vistok.page.maps import Map
from vistok.study.findings.arms import Arms
from vistok.study.findings.claim_data import CELL, by_family, longest
from vistok.study.findings.effects import Effect, effect
from vistok.study.findings.fit import PowerLaw, frontier
from vistok.study.findings.laws import CONVENTIONS
from vistok.study.findings.table import positions
from vistok.study.findings.verdict import Estimate, mean_of_seeds

TITLES = {
    "total_flops": "Compute of both stages",
    "train_flops": "Compute of the generator",
    "train_flops_paper": "The paper's count",
}
# Column -> what it is, for generators compared with the baseline's.
COMPARED = {
    "gfmd": "chosen guidance",
    "gfmd_unguided": "without guidance",
    "gfmd_val": "against held-out train images",
}


def differences(rows: pd.DataFrame, arms: Arms) -> Rows:
    """Return each arm's gFMD as a share of the baseline's: the mean over the cells that both have, with every seed's own.

    Where there are several families of generators, a row for each, at the chosen guidance.
    """
    families, base = by_family(rows), arms[arms.baseline]
    views = [(rows, column, how) for column, how in COMPARED.items()]
    if len(families) > 1:
        views = [(of_family, "gfmd", family) for family, of_family in families.items()]
    shown = [
        multiple(found, f"{arms[name]}, {how}", arms.colour(name))
        for name in arms.main
        if name != arms.baseline
        for of_view, column, how in views
        if (found := effect(of_view, arms.baseline, name, column))
    ]
    return Rows(
        f"gFMD, as a multiple of that of {base}: less is better",
        shown,
        "mean over cells" + ("; small: single seeds" if any(row.points for row in shown) else ""),
        log=True,
        references={f"as {base}": 1.0},
    )


def multiple(found: Effect, label: str, colour: int, of: str = "the baseline's gFMD") -> Row:
    """Return an effect on gFMD as a multiple, with its interval and single seeds."""
    value, (low, high) = math.exp(found.found.value), _ends(found.found, math.exp)
    interval = f" ({low:.2f} to {high:.2f}, 95 %)" if low is not None else ""
    points = [math.exp(seed) for seed in found.seeds] if len(found.seeds) > 1 else []
    return Row(label, value, low, high, colour, points, f"{label}: {value:.2f} times {of}{interval}")


def _ends(found: Estimate, become: Callable[[float], float] = float) -> tuple[float | None, float | None]:
    """Return an interval's ends, None for those of a single unit."""
    return (become(min(found.low, 700)), become(min(found.high, 700))) if found.n > 1 else (None, None)


def pairs(rows: pd.DataFrame, arms: Arms, column: str, laws: dict[str, PowerLaw]) -> list[Chart]:
    """Return a chart for each arm beside the baseline, and for each family of generators."""
    families = by_family(rows[rows[column].notna()])
    return [
        pair(of_family, name, arms, column, laws if len(families) == 1 else {}, family if len(families) > 1 else "")
        for name in [name for name in arms.main if name != arms.baseline] or arms.main
        for family, of_family in families.items()
    ]


def pair(rows: pd.DataFrame, name: str, arms: Arms, column: str, laws: dict[str, PowerLaw], family: str = "") -> Chart:
    """Return one arm beside the baseline: means of cells with intervals over seeds, runs, laws, and the tokenizers' rFMD."""
    series: list[Series] = []
    for choice in dict.fromkeys((arms.baseline, name)):
        runs = rows[(rows.tokenizer_choice == choice) & rows[column].notna()]
        if runs.empty:
            continue
        colour, label = arms.colour(choice), arms[choice]
        series.append(Series("", list(runs.train_flops), list(runs[column].astype(float)), colour, True, True, sizes=[2.4] * len(runs)))  # fmt: skip
        series.append(means_of_cells(runs, column, label, colour))
        if (law := laws.get(choice)) and column == "gfmd":
            x = np.geomspace(law.low_compute, law.high_compute, 40)
            series.append(Series("", list(x), list(law(x)), colour, faint=True))
        series.append(_floor(runs, label, colour, rows))
    title = f"{arms[name]}, {family}" if family else arms[name]
    return Chart(title, series, CONVENTIONS["train_flops"], "gFMD", x_log=True, y_log=True)


def means_of_cells(runs: pd.DataFrame, column: str, label: str, colour: int, against: str = "train_flops") -> Series:
    """Return a mark for each cell (generator, length): the geometric mean over seeds, with its interval."""
    points = []
    for (generator, _), cell in runs.groupby(CELL):
        found = mean_of_seeds(list(np.log(cell[column].astype(float))))
        value, low, high = (float(np.exp(np.clip(x, -700, 700))) for x in (found.value, found.low, found.high))
        if found.n < 2:
            low = high = value
        spread = f" ({number(low)} to {number(high)} over {found.n} seeds)" if found.n > 1 else " (one seed)"
        text = f"{label}, {generator}, {cell.steps.iloc[0]:,.0f} steps: {number(value)}{spread}"
        points.append((float(cell[against].mean()), value, low, high, text, int(cell.params.iloc[0])))
    points.sort(key=lambda one: one[0])
    xs, ys, lows, highs, texts, params = zip(*points, strict=True)
    sizes = _sizes(params)
    return Series(label, xs, ys, colour, True, False, lows, highs, texts, sizes)


def _sizes(params: Sequence[int]) -> list[float]:
    """Return radii: larger for larger generators."""
    ranks = {count: rank for rank, count in enumerate(sorted(set(params)))}
    return [3.2 + 1.2 * ranks[count] for count in params]


def _floor(runs: pd.DataFrame, label: str, colour: int, rows: pd.DataFrame, column: str = "train_flops") -> Series:
    """Return a dashed line at a tokenizer's rFMD, which its gFMD can hardly pass."""
    value, low, high = float(runs.rfmd.mean()), float(rows[column].min()), float(rows[column].max())
    ends = [low, high] if high > 1.02 * low else [0.98 * low, 1.02 * high]  # of one length a line can be seen, too
    if not np.isfinite(value):
        return Series("", (), ())
    return Series("", ends, [value] * 2, colour, texts=[f"rFMD of {label}: {number(value)}"] * 2, dashed=True)


def against_compute(
    rows: pd.DataFrame, value: str, label: str, arms: Arms, laws: dict[tuple[str, str], PowerLaw], column: str
) -> Chart:
    """Return all runs of all arms against compute, counted in one way, with their laws."""
    series: list[Series] = []
    for name in arms.main:
        runs = rows[(rows.tokenizer_choice == name) & rows[value].notna()].sort_values(column)
        if runs.empty:
            continue
        texts = [
            f"{arms[name]}, {run.choice}, {run.steps:,.0f} steps, seed {run.seed}: {number(float(getattr(run, value)))}"
            for run in runs.itertuples()
        ]
        sizes = [0.8 * size for size in _sizes(list(runs.params))]
        series.append(
            Series(arms[name], list(runs[column]), list(runs[value].astype(float)), arms.colour(name), True, texts=texts, sizes=sizes)
        )  # fmt: skip
        if law := laws.get((name, column)):
            x = np.geomspace(law.low_compute, law.high_compute, 40)
            series.append(Series("", list(x), list(law(x)), arms.colour(name), faint=True))
    return Chart(TITLES[column], series, CONVENTIONS[column], label, x_log=True, y_log=True)


def frontiers(rows: pd.DataFrame, arms: Arms, names: dict[str, str]) -> list[Chart]:
    """Return gFMD and held-out bits per image against the generator's compute, with a line along each seed's frontier.

    A chart for each family of generators.
    """
    families = by_family(rows)
    if len(families) > 1:
        return [
            replace(chart, title=f"{chart.title}, {family}")
            for family, of_family in families.items()
            for chart in frontiers(of_family, arms, names)
        ]
    charts = []
    for value, label in (("gfmd", "gFMD (chosen guidance)"), ("gfmd_unguided", "gFMD without guidance"), ("bits_per_image", "bits per image (held out)")):  # fmt: skip
        series: list[Series] = []
        for name in [name for name in arms.all if name in names]:
            runs = rows[(rows.tokenizer_choice == name) & rows[value].notna()]
            if runs.empty:
                continue
            colour = arms.colour(name)
            for _, of_seed in runs.groupby("seed"):
                best = of_seed.iloc[frontier(list(of_seed.train_flops), list(of_seed[value].astype(float)))]
                series.append(Series("", list(best.train_flops), list(best[value].astype(float)), colour, faint=True))
            series.append(means_of_cells(runs, value, names[name], colour))
            if value != "bits_per_image":
                series.append(_floor(runs, names[name], colour, rows))
        charts.append(Chart(label, series, CONVENTIONS["train_flops"], label, x_log=True, y_log=True))
    return [chart for chart in charts if not chart.empty]


def rate_distortion(rows: pd.DataFrame, arms: Arms) -> list[Chart]:
    """Return distortion (PSNR, rFMD) against rate: held-out bits per image of the largest generator's longest run."""
    last = longest(rows)
    charts = []
    for column, label in (("psnr", "PSNR (dB), higher is better"), ("rfmd", "rFMD, lower is better")):
        series = [
            Series(
                arms[name], list(runs.bits_per_image.astype(float)), list(runs[column].astype(float)), arms.colour(name), True,
                texts=[f"{arms[name]}, seed {run.seed}: {number(float(getattr(run, column)))} at {run.bits_per_image:.0f} bits" for run in runs.itertuples()],
            )
            for name in arms.main
            if len(runs := last[last.tokenizer_choice == name])
        ]  # fmt: skip
        charts.append(Chart(label.partition(",")[0], series, "bits per image (held out)", label))
    return charts


def position_curves(rows: pd.DataFrame, arms: Arms) -> Chart:
    """Return held-out nats by position in raster order: thin lines are seeds, a thick one their mean."""
    series: list[Series] = []
    for name in arms.main:
        of_choice = rows[rows.tokenizer_choice == name]
        if of_choice.empty:
            continue
        curves = positions(of_choice)
        at = list(range(curves.shape[1]))
        if len(curves) > 1:
            series += [Series("", at, list(curve), arms.colour(name), faint=True) for curve in curves]
        series.append(Series(arms[name], at, list(curves.mean(axis=0)), arms.colour(name)))
    lines = "layout" in rows and (rows.layout == "line").any()
    place = "position in raster order, or along the line" if lines else "position in raster order"
    return Chart("Nats by position", series, place, "nats per token (held out)")


def position_gains(rows: pd.DataFrame, arms: Arms) -> list[Map]:
    """Return, over the token grid or along the line, the nats that each arm with as many tokens saves (mean over seeds)."""
    means = {str(name): positions(of).mean(axis=0) for name, of in rows.groupby("tokenizer_choice")}
    base = means.get(arms.baseline)
    sides = None if base is None else _sides(rows[rows.tokenizer_choice == arms.baseline], len(base))
    if base is None or sides is None:
        return []
    gains = {name: base - means[name] for name in arms.main[1:] if name in means and means[name].shape == base.shape}
    limit = max((float(np.abs(gain).max()) for gain in gains.values()), default=1.0)
    return [
        Map(
            f"{arms[name]}: {int((gain > 0).sum())} of {gain.size} positions easier",
            gain.reshape(sides).tolist(), "nats saved", arms.colour(name), arms.colour(arms.baseline), limit,
        )
        for name, gain in gains.items()
    ]  # fmt: skip


def _sides(rows: pd.DataFrame, count: int) -> tuple[int, int] | None:
    """Return the height and width of a map of so many tokens: one row for a line. None if it is not known.

    Tables of earlier versions do not say how tokens lie; theirs lie on grids, of which only the square ones are clear.
    """
    layout = str(rows.layout.iloc[0]) if "layout" in rows else "nan"
    if layout == "line":
        return 1, count
    if layout != "nan":
        height, width = map(int, layout.split("x"))
        return height, width
    side = round(count**0.5)
    return (side, side) if side**2 == count else None


def entropies(rows: pd.DataFrame, arms: Arms) -> list[Rows]:
    """Return each tokenizer's total entropy, entropy by position and skewness: the mean over seeds, and each seed."""
    panels = (
        ("entropy", "entropy of all tokens (bits)"),
        ("position_entropy", "entropy by position (bits)"),
        ("skewness", "skewness"),
    )
    found = []
    for column, label in panels:
        shown = []
        for name in arms.all:
            values = [float(value) for value in rows[rows.choice == name][column].dropna()]
            if values:
                mean = mean_of_seeds(values)
                low, high = _ends(mean)
                points = values if mean.n > 1 else []
                shown.append(Row(arms[name], mean.value, low, high, arms.colour(name), points))
        found.append(Rows(label[0].upper() + label[1:], shown, label))
    return found


def sweep(rows: pd.DataFrame, column: str, label: str, group: str, colours: Callable[[str], int]) -> list[Chart]:
    """Return gFMD, with and without guidance, rFMD and nats per token against a swept setting; lines join means over seeds."""
    panels = (
        ("gfmd", "gFMD (chosen guidance)"),
        ("gfmd_unguided", "gFMD without guidance"),
        ("rfmd", "rFMD"),
        ("val_nats_per_token", "nats per token"),
    )
    values = sorted({float(value) for value in rows[column]})
    place = _places(values)
    charts = []
    for value, name in panels:
        series: list[Series] = []
        for key in sorted(set(rows[group])):
            runs = rows[(rows[group] == key) & rows[value].notna()]
            if runs.empty:
                continue
            means = runs.groupby(column)[value].mean().astype(float)
            colour, at = colours(str(key)), [place[float(x)] for x in means.index]
            texts = [f"{key}, {x:g}: {number(y)}" for x, y in means.items()]
            series.append(Series("", at, list(means), colour, texts=texts))
            series.append(Series(str(key), at, list(means), colour, True, texts=texts))
            each = [place[float(x)] for x in runs[column]]
            series.append(
                Series("", each, list(runs[value].astype(float)), colour, True, True, sizes=[2.4] * len(runs))
            )
        if not (chart := Chart(name, series, label, name, x_ticks={f"{x:g}": place[x] for x in values})).empty:
            charts.append(chart)
    return charts


def _places(values: Sequence[float]) -> dict[float, float]:
    """Return where values lie: integers as they are, others by their logarithm, with 0 a step before the least."""
    if all(value.is_integer() for value in values):
        return {value: value for value in values}
    least = min(value for value in values if value > 0)
    return {value: 1 + float(np.log10(value / least)) if value > 0 else 0.4 for value in values}


def joined(charts: Sequence[Chart | Rows | Map]) -> Markup:
    """Return figures beside each other, or below each other on a narrow screen."""
    return Markup('<div class="columns">{}</div>').format(Markup("").join(chart.figure() for chart in charts))
