"""The demo's figures, as SVG data URIs: colour-blind-safe colours, axes with units."""

from typing import Any

import numpy as np

from vistok.page.plots import plot_uri, pyplot

COLOURS = {"baseline": "#0072B2", "crt": "#D55E00"}
MARKERS = {"baseline": "o", "crt": "s"}
NAMES = {"baseline": "without", "crt": "with regularizer"}


def per_position(results: list[dict[str, Any]]) -> str:
    """Return held-out nats by position: a line per arm, and a thin one per seed."""
    plt = pyplot()
    figure, axes = plt.subplots(figsize=(7.2, 3.0))
    for arm, colour in COLOURS.items():
        curves = [_position_nats(result, arm) for result in results]
        if len(curves) > 1:
            for curve in curves:
                axes.plot(curve, color=colour, lw=0.6, alpha=0.5)
        axes.plot(np.mean(curves, axis=0), color=colour, marker=MARKERS[arm], ms=3, lw=1.4, label=NAMES[arm])
    axes.set_xlabel("position in raster order")
    axes.set_ylabel("nats per token (held out)")
    axes.legend(frameon=False)
    return plot_uri(figure)


def position_maps(results: list[dict[str, Any]], grid: tuple[int, int]) -> str:
    """Return the same over the token grid, and the regularizer's gain."""
    plt = pyplot()
    maps = {arm: np.mean([_position_nats(r, arm) for r in results], axis=0).reshape(grid) for arm in COLOURS}
    gain = maps["baseline"] - maps["crt"]
    figure, axes = plt.subplots(1, 3, figsize=(9.4, 3.0))
    top = max(m.max() for m in maps.values())
    for axis, (arm, values) in zip(axes[:2], maps.items(), strict=True):
        shown = axis.imshow(values, cmap="cividis", vmin=0, vmax=top)
        axis.set_title(f"{NAMES[arm]}: {values.mean():.3f}", fontsize=10)
        figure.colorbar(shown, ax=axis, shrink=0.8, label="nats")
    limit = float(np.abs(gain).max()) or 1.0
    shown = axes[2].imshow(gain, cmap="PuOr", vmin=-limit, vmax=limit)
    axes[2].set_title(f"gain: {int((gain > 0).sum())} of {gain.size} positions", fontsize=10)
    figure.colorbar(shown, ax=axes[2], shrink=0.8, label="nats saved")
    for axis in axes:
        axis.set_xlabel("column")
        axis.set_ylabel("row")
    return plot_uri(figure)


def training_curves(results: list[dict[str, Any]]) -> str:
    """Return validation PSNR and nats per token against training FLOPs."""
    plt = pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(9.4, 3.0))
    panels = (("tokenizer", "psnr", "PSNR (dB), held out"), ("generator", "nats_per_token", "nats per token, held out"))
    for axis, (stage, key, label) in zip(axes, panels, strict=True):
        for arm, colour in COLOURS.items():
            for i, result in enumerate(results):
                rows = [r for r in result[arm][stage]["rows"] if r["kind"] == "validation" and key in r]
                axis.plot(
                    [r["flops"] / 1e12 for r in rows],
                    [r[key] for r in rows],
                    color=colour,
                    marker=MARKERS[arm],
                    ms=3.5,
                    lw=1.2,
                    label=NAMES[arm] if i == 0 else None,
                )
        axis.set_xlabel(f"training TFLOP of the {stage} (full count)")
        axis.set_ylabel(label)
        axis.legend(frameon=False)
    return plot_uri(figure)


def _position_nats(result: dict[str, Any], arm: str) -> np.ndarray:
    return np.array(result[arm]["generator"]["likelihood"]["ema"]["position_nats"])
