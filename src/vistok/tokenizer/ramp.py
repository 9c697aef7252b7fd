"""The ramp along which a loss weight rises."""

import math


def cosine_ramp(step: int, start: int | float, length: int) -> float:
    """Return 0 until `start`, then a half cosine up to 1 over `length` steps, then 1."""
    if step < start:
        return 0.0
    if step >= start + length:
        return 1.0
    return 0.5 - 0.5 * math.cos(math.pi * (step - start) / length)
