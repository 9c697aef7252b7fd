"""Bound how long OpenMP's threads spin, for machines that run other programs too.

OpenMP's threads meet at the end of every operation. One that arrives early spins, so as to go on without delay; but if
another program holds the core of the thread it waits for, it burns the very time that thread needs, and a command takes
five times as long as its fair share (benchmarks/neighbours.py). With a bound, it spins for as long as pays off on an
idle machine, then gives up its core.
"""

import os
from collections.abc import Mapping

# GNU's: about 0.1 ms on the processors measured; its default without a policy is several ms. LLVM's and Intel's: 1 ms instead
# of 200, the least that is not none (not measured here).
_BOUNDS = {"GOMP_SPINCOUNT": "20000", "KMP_BLOCKTIME": "1"}
_CHOSEN = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def bounds(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables to add to a process's environment: none if any of those that control spinning is set already."""
    return {} if any(name in environment for name in _CHOSEN) else dict(_BOUNDS)


def bound_spinning() -> None:
    """Bound the spinning of this process and those it starts. Call it before importing torch: OpenMP reads it once."""
    os.environ.update(bounds(os.environ))
