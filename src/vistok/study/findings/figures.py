"""A study's figures, as SVG: colour-blind-safe colours, a marker for each series, axes with units."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from vistok.page.plots import plot_uri, pyplot
from vistok.study.findings.fit import PowerLaw, frontier
from vistok.study.findings.table import positions

# Okabe and Ito's palette, with black last.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
MARKERS = "osD^vP*X"
CONVENTIONS = {
    "total_flops": "training FLOPs of both stages (full count)",
    "train_flops": "training FLOPs of the generator (full count)",
    "train_flops_paper": "6 x parameters x steps x tokens (the paper's axis)",
}


class Style:
    """A colour and a marker for each name, consistent across figures."""

    def __init__(self, names: Sequence[str]) -> None:
        self.numbers = {name: i for i, name in enumerate(names)}

    def __getitem__(self, name: str) -> dict[str, Any]:
        i = self.numbers[name]
        return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}


def against_compute(
    rows: pd.DataFrame,
    value: str,
    label: str,
    style: Style,
    laws: dict[tuple[str, str], PowerLaw],
    columns: Sequence[str],
) -> str:
    """Plot a value against compute, with one panel per way to count it; points are runs, larger for larger generators."""
    figure, axes = pyplot().subplots(1, len(columns), figsize=(4.7 * len(columns), 3.6), sharey=True, squeeze=False)
    sizes = {params: 18 + 22 * i for i, params in enumerate(sorted(set(rows.params)))}
    for axis, column in zip(axes[0], columns, strict=True):
        for name in style.numbers:
            of_choice = rows[rows.tokenizer_choice == name]
            if of_choice.empty:
                continue
            axis.scatter(
                of_choice[column],
                of_choice[value],
                s=[sizes[p] for p in of_choice.params],
                **style[name],
                alpha=0.6,
                lw=0,
                label=name,
            )
            law = laws.get((name, column))
            if law is not None:
                x = np.geomspace(law.low_compute, law.high_compute, 60)
                axis.plot(x, law(x), color=style[name]["color"], lw=1.3)
        axis.set_xlabel(CONVENTIONS[column], fontsize=8)
    axes[0][0].set_ylabel(label)
    for axis in axes[0]:
        _logarithmic(axis)
    axes[0][-1].legend(frameon=False, fontsize=7)
    return plot_uri(figure)


def frontiers(rows: pd.DataFrame, style: Style) -> str:
    """Plot gFMD and held-out bits per image against the generator's compute, with a line along each choice's frontier."""
    panels = (("gfmd", "gFMD (chosen guidance)"), ("bits_per_image", "bits per image (held out)"))
    figure, axes = pyplot().subplots(1, 2, figsize=(9.4, 3.4))
    for axis, (value, label) in zip(axes, panels, strict=True):
        for name in style.numbers:
            of_choice = rows[rows.tokenizer_choice == name]
            axis.scatter(of_choice.train_flops, of_choice[value], **style[name], s=26, alpha=0.6, lw=0, label=name)
            for _, runs in of_choice.groupby("seed"):
                best = runs.iloc[frontier(list(runs.train_flops), list(runs[value]))]  # by compute
                axis.plot(best.train_flops, best[value], color=style[name]["color"], lw=1.2)
        _logarithmic(axis)
        axis.set_xlabel(CONVENTIONS["train_flops"], fontsize=8)
        axis.set_ylabel(label, fontsize=9)
    axes[0].legend(frameon=False, fontsize=7)
    return plot_uri(figure)


def rate_distortion(rows: pd.DataFrame, style: Style) -> str:
    """Plot distortion (PSNR, rFMD) against rate: held-out bits per image of the largest generator's longest run."""
    last = rows[(rows.params == rows.params.max()) & (rows.steps == rows.steps.max())]
    figure, axes = pyplot().subplots(1, 2, figsize=(9.4, 3.4))
    for axis, (column, label) in zip(axes, (("psnr", "PSNR (dB)"), ("rfmd", "rFMD")), strict=True):
        for name in style.numbers:
            of_choice = last[last.tokenizer_choice == name]
            axis.scatter(of_choice.bits_per_image, of_choice[column], **style[name], s=36, alpha=0.8, lw=0, label=name)
        axis.set_xlabel("bits per image (held out)")
        axis.set_ylabel(label)
    axes[0].legend(frameon=False, fontsize=7)
    return plot_uri(figure)


def position_curves(rows: pd.DataFrame, style: Style) -> str:
    """Plot held-out nats by position in raster order: thin lines are seeds, a thick line their mean."""
    figure, axis = pyplot().subplots(figsize=(7.4, 3.2))
    for name in style.numbers:
        of_choice = rows[rows.tokenizer_choice == name]
        if of_choice.empty:
            continue
        curves = positions(of_choice)
        colour = style[name]["color"]
        for curve in curves:
            axis.plot(curve, color=colour, lw=0.5, alpha=0.5)
        axis.plot(curves.mean(axis=0), **style[name], ms=3, lw=1.4, label=name)
    axis.set_xlabel("position in raster order")
    axis.set_ylabel("nats per token (held out)")
    axis.legend(frameon=False, fontsize=7)
    return plot_uri(figure)


def position_gains(rows: pd.DataFrame, baseline: str, others: Sequence[str]) -> str:
    """Plot, over the token grid, the nats that each choice with the same number of tokens saves (mean over seeds)."""
    base = positions(rows[rows.tokenizer_choice == baseline]).mean(axis=0)
    side = round(len(base) ** 0.5)
    means = {name: positions(of_choice).mean(axis=0) for name, of_choice in rows.groupby("tokenizer_choice")}
    known = [name for name in others if name in means and means[name].shape == base.shape]
    gains = {name: base - means[name] for name in known}
    limit = max((float(np.abs(gain).max()) for gain in gains.values()), default=1.0) or 1.0
    figure, axes = pyplot().subplots(1, max(1, len(known)), figsize=(4.2 * max(1, len(known)), 3.4), squeeze=False)
    for axis, (name, gain) in zip(axes[0], gains.items(), strict=False):
        shown = axis.imshow(gain.reshape(side, -1), cmap="PuOr", vmin=-limit, vmax=limit)
        axis.set_title(f"{name}: {int((gain > 0).sum())} of {gain.size} positions easier", fontsize=9)
        axis.set_xlabel("column")
        axis.set_ylabel("row")
        figure.colorbar(shown, ax=axis, shrink=0.8, label="nats saved")
    return plot_uri(figure)


def entropies(rows: pd.DataFrame, style: Style) -> str:
    """Plot each tokenizer's total entropy, entropy by position and skewness, with a point for each seed."""
    panels = (
        ("entropy", "entropy of all tokens (bits)"),
        ("position_entropy", "entropy by position (bits)"),
        ("skewness", "skewness"),
    )
    names = [name for name in style.numbers if (rows.choice == name).any()]
    figure, axes = pyplot().subplots(1, 3, figsize=(10.4, 0.7 + 0.32 * len(names) + 0.6), sharey=True)
    for axis, (column, label) in zip(axes, panels, strict=True):
        for i, name in enumerate(names):
            of_choice = rows[rows.choice == name]
            axis.scatter(of_choice[column], [i] * len(of_choice), **style[name], s=26, alpha=0.8, lw=0)
        axis.set_xlabel(label, fontsize=9)
        axis.set_yticks(range(len(names)), names, fontsize=8)
    axes[0].invert_yaxis()
    return plot_uri(figure)


def sweep(rows: pd.DataFrame, column: str, label: str, group: str) -> str:
    """Plot gFMD, the tokenizers' rFMD and nats per token against a swept setting."""
    panels = (("gfmd", "gFMD"), ("rfmd", "rFMD"), ("val_nats_per_token", "nats per token"))
    figure, axes = pyplot().subplots(1, 3, figsize=(10.4, 3.1))
    groups = sorted(set(rows[group]))
    for axis, (value, name) in zip(axes, panels, strict=True):
        for i, key in enumerate(groups):
            of_group = rows[rows[group] == key]
            style = {"color": COLOURS[i % 8], "marker": MARKERS[i % 8]}
            axis.scatter(of_group[column], of_group[value], **style, s=20, alpha=0.6, lw=0)
            means = of_group.groupby(column)[value].mean()
            axis.plot(means.index, means, color=style["color"], lw=1.2, label=str(key))
        values = sorted(set(rows[column]))
        if all(float(value).is_integer() for value in values):
            axis.set_xticks(values)
        else:
            axis.set_xscale("symlog", linthresh=min(value for value in values if value > 0))
            axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_xlabel(label, fontsize=9)
        axis.set_ylabel(name, fontsize=9)
    axes[0].legend(frameon=False, fontsize=7)
    return plot_uri(figure)


def _logarithmic(axis: Any) -> None:
    """Make both axes of a plotted panel logarithmic, with readable labels."""
    axis.set_xscale("log")
    axis.set_yscale("log")
    _plain_numbers(axis.yaxis)
    _few_powers(axis.xaxis)


def _plain_numbers(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 3, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def _few_powers(axis: Any) -> None:
    """Label a logarithmic axis of FLOPs at 1 and 3 times powers of ten (more densely if it spans less than one decade)."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(base=10, subs=(1, 3) if high > 10 * low else (1, 2, 3, 4, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0e}".replace("e+", "e")))
    axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    axis.set_tick_params(labelsize=8)
