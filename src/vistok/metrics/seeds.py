"""What independent values, one for each seed, say of their mean."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import special


def t_bounds(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Return the mean of one value or more and the ends of its t-interval, infinite for a single value."""
    x = np.asarray(values, dtype=np.float64)
    mean = float(x.mean())
    if len(x) < 2:
        return mean, -math.inf, math.inf
    half = float(special.stdtrit(len(x) - 1, 0.5 + confidence / 2) * x.std(ddof=1) / math.sqrt(len(x)))
    return mean, mean - half, mean + half
