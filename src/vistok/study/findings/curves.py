"""Curves of gFMD against compute, and how much less compute one needs for what the other reaches."""

from collections.abc import Sequence

import numpy as np

from vistok.study.findings.fit import frontier

LEVELS = 9


def log_compute_ratio(
    baseline: tuple[Sequence[float], Sequence[float]], other: tuple[Sequence[float], Sequence[float]]
) -> float | None:
    """Return the mean of log(baseline's compute / other's compute) for equal loss; above 0: the other needs less.

    Each is (compute, loss) of one seed's runs. Of both the frontier (no cheaper run is as good) is joined by lines in
    log-log. Equal losses: nine, evenly spaced in log between the ends of what both frontiers reach. None where they
    reach nothing in common.
    """
    curves = [_frontier_curve(*runs) for runs in (baseline, other)]
    best = max(loss.min() for _, loss in curves)
    worst = min(loss.max() for _, loss in curves)
    if not best < worst:
        return None
    levels = np.linspace(np.log(best), np.log(worst), LEVELS)
    # np.interp wants rising abscissae: along a frontier the loss falls.
    needed = [np.interp(levels, np.log(loss[::-1]), np.log(compute[::-1])) for compute, loss in curves]
    return float((needed[0] - needed[1]).mean())


def loss_at(compute: Sequence[float], loss: Sequence[float], wanted: float) -> float:
    """Return the loss that a compute buys: the frontier's line in log-log, level beyond its ends."""
    xs, ys = _frontier_curve(compute, loss)
    return float(np.exp(np.interp(np.log(wanted), np.log(xs), np.log(ys))))


def _frontier_curve(compute: Sequence[float], loss: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    kept = frontier(compute, loss)
    return np.asarray(compute, dtype=np.float64)[kept], np.asarray(loss, dtype=np.float64)[kept]
