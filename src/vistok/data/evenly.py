"""A few of many, from the first to the last."""

import numpy as np


def evenly(count: int, most: int) -> np.ndarray:
    """Return at most `most` numbers of 0 ... count - 1, int64, evenly spread from the first to the last; all if they are few."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(np.int64)
