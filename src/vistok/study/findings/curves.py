"""Curves of gFMD against compute, and how much less compute one needs to match the other."""

from collections.abc import Sequence

import numpy as np

from vistok.study.findings.fit import frontier

LEVELS = 9


def log_compute_ratio(
    baseline: tuple[Sequence[float], Sequence[float]], other: tuple[Sequence[float], Sequence[float]]
) -> float | None:
    """Return the mean of log(baseline's compute / other's compute) at equal loss; above 0, the other needs less.

    Both arguments are (compute, loss) of one seed's runs. The frontiers (runs that no cheaper run matches) are joined by
    lines in log-log. They are compared at nine losses, evenly spaced in log over the range that both reach. Returns None if
    they have no range in common.
    """
    curves = [_frontier_curve(*runs) for runs in (baseline, other)]
    best = max(loss.min() for _, loss in curves)
    worst = min(loss.max() for _, loss in curves)
    if not best < worst:
        return None
    levels = np.linspace(np.log(best), np.log(worst), LEVELS)
    # np.interp needs increasing x values, but along a frontier the loss falls.
    needed = [np.interp(levels, np.log(loss[::-1]), np.log(compute[::-1])) for compute, loss in curves]
    return float((needed[0] - needed[1]).mean())


def area_compute_ratio(
    baseline: Sequence[Sequence[tuple[float, float]]], other: Sequence[Sequence[tuple[float, float]]]
) -> float:
    """Return the log of (baseline's compute / other's compute) for equal loss, from the area between the two curves.

    Each argument is one tokenizer's curves, one for each generator size: (compute, loss) by length, at the same lengths in
    both. The mean log gap of losses over all cells, divided by the mean slope at which the log loss falls with the log
    compute (of each curve by least squares, over both tokenizers' curves). Unlike frontiers, it uses every run.
    """
    gaps = [
        np.log(before) - np.log(after)
        for of_base, of_other in zip(baseline, other, strict=True)
        for (_, before), (_, after) in zip(of_base, of_other, strict=True)
    ]
    falls = []
    for curve in (*baseline, *other):
        compute, loss = np.log(np.asarray(curve, dtype=np.float64)).T
        falls.append(-float(np.polyfit(compute, loss, 1)[0]))
    return float(np.mean(gaps) / np.mean(falls))


def loss_at(compute: Sequence[float], loss: Sequence[float], wanted: float) -> float:
    """Return the loss that the compute `wanted` buys, on the frontier's line in log-log; constant beyond its ends."""
    xs, ys = _frontier_curve(compute, loss)
    return float(np.exp(np.interp(np.log(wanted), np.log(xs), np.log(ys))))


def _frontier_curve(compute: Sequence[float], loss: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    kept = frontier(compute, loss)
    return np.asarray(compute, dtype=np.float64)[kept], np.asarray(loss, dtype=np.float64)[kept]
