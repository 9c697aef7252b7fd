"""Quality against calls of every shortcut and its teacher, as a picture."""

from pathlib import Path

import matplotlib
import pandas as pd

from vistok.page.colours import MARKERS, SERIES

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402


def frontier_picture(ways: pd.DataFrame, names: dict[str, tuple[str, int]], file: Path) -> None:
    """Draw gFMD against calls, intervals where there are several seeds; the teacher by solver."""
    figure, axes = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
    for arm, part in ways.groupby("arm", sort=False):
        name, colour = names[str(arm)]
        for solver, some in part.groupby("solver") if arm == "teacher" else [("", part)]:
            some = some.sort_values("calls")
            several = (some.seeds > 1).all()
            bars = [some.gfmd - some.low, some.high - some.gfmd] if several else None
            style = {"euler": ":", "heun": "--", "multistep": "-"}.get(str(solver), "-")
            axes.errorbar(
                some.calls, some.gfmd, bars, label=f"{name}, {solver}" if solver else name, color=SERIES[colour % len(SERIES)],
                marker=MARKERS[list(names).index(str(arm)) % len(MARKERS)], linestyle=style, markersize=5, linewidth=1, capsize=2,
            )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="calls of the network for an image", ylabel="gFMD (test, bias removed)")
    axes.set_xticks([1, 2, 4, 8, 20, 50, 100], ["1", "2", "4", "8", "20", "50", "100"])
    axes.minorticks_off()
    axes.set_yticks([0.7, 1, 2, 5, 10, 20], ["0.7", "1", "2", "5", "10", "20"])
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7, ncols=2)
    figure.savefig(file, dpi=130)
    plt.close(figure)
