"""The demo's figures: blue is the tokenizer without the regularizer, orange the one with it."""

from typing import Any

import numpy as np
from markupsafe import Markup

from vistok.page.axes import number
from vistok.page.charts import Chart, Series
from vistok.page.maps import Map

COLOURS = {"baseline": 0, "crt": 1}
NAMES = {"baseline": "no regularizer", "crt": "causal regularizer"}


def per_position(results: list[dict[str, Any]]) -> Chart:
    """Return held-out nats by position: a line per arm, and a thin one per seed."""
    series = []
    for arm, colour in COLOURS.items():
        curves = [_position_nats(result, arm) for result in results]
        at = list(range(len(curves[0])))
        if len(curves) > 1:
            series += [Series("", at, list(curve), colour, faint=True) for curve in curves]
        series.append(Series(NAMES[arm], at, list(np.mean(curves, axis=0)), colour))
    return Chart("Nats by position", series, "position in raster order", "nats per token (held out)")


def position_maps(results: list[dict[str, Any]], grid: tuple[int, int]) -> list[Map]:
    """Return the same over the token grid, and the regularizer's gain."""
    means = {arm: np.mean([_position_nats(r, arm) for r in results], axis=0).reshape(grid) for arm in COLOURS}
    top = max(float(values.max()) for values in means.values())
    gain = means["baseline"] - means["crt"]
    maps = [
        Map(f"{NAMES[arm]}: {values.mean():.3f}", values.tolist(), "nats", COLOURS[arm], limit=top)
        for arm, values in means.items()
    ]
    title = f"Gain: {int((gain > 0).sum())} of {gain.size} positions easier"
    return [*maps, Map(title, gain.tolist(), "nats saved", COLOURS["crt"], COLOURS["baseline"])]


def training_curves(results: list[dict[str, Any]]) -> list[Chart]:
    """Return validation PSNR and nats per token against training FLOPs."""
    panels = (("tokenizer", "psnr", "PSNR (dB), held out"), ("generator", "nats_per_token", "nats per token, held out"))
    charts = []
    for stage, key, label in panels:
        series = []
        if not any(result[arm][stage]["rows"] for result in results for arm in COLOURS):
            continue  # trained before vistok was packed
        for arm, colour in COLOURS.items():
            for result in results:
                rows = [r for r in result[arm][stage]["rows"] if r["kind"] == "validation" and key in r]
                texts = [f"{NAMES[arm]}, step {r['step']:,}: {number(r[key])}" for r in rows]
                series.append(
                    Series(NAMES[arm], [r["flops"] / 1e12 for r in rows], [r[key] for r in rows], colour, texts=texts)
                )
        charts.append(Chart(label, series, f"training TFLOP of the {stage} (full count)", label))
    return charts


def joined(figures: list[Chart] | list[Map]) -> Markup:
    """Return figures beside each other, or below each other on a narrow screen."""
    return Markup('<div class="columns">{}</div>').format(Markup("").join(figure.figure() for figure in figures))


def _position_nats(result: dict[str, Any], arm: str) -> np.ndarray:
    return np.array(result[arm]["generator"]["likelihood"]["ema"]["position_nats"])
