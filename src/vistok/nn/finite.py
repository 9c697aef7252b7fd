"""Whether numbers are finite: NaN and infinity become codes and pictures like any other where nobody looks."""

from torch import Tensor


def rows_not_finite(values: Tensor) -> int:
    """Return how many rows of a batch (batch ...) hold NaN or infinity; integers hold neither."""
    return int((~values.isfinite()).flatten(1).any(1).sum()) if values.is_floating_point() else 0
