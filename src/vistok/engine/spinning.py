"""Bound how long OpenMP's threads spin, for machines that run other programs too.

OpenMP's threads meet at the end of every operation. One that arrives early spins, so as to go on without delay; but if
another program holds the core of the thread it waits for, it burns the very time that thread needs, and a command takes
five times as long as its fair share (benchmarks/neighbours.py). With a bound, it spins for as long as pays off on an
idle machine, then gives up its core.
"""

import os

# About 0.1 ms on the processors measured; GNU's default without a policy is several ms.
_BOUNDS = {"GOMP_SPINCOUNT": "20000"}
_CHOSEN = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def bound_spinning() -> None:
    """Bound the spinning of this process and those it starts. Call it before importing torch: OpenMP reads it once.

    If the user has set any of the variables that control it, nothing is changed.
    """
    if not any(name in os.environ for name in _CHOSEN):
        os.environ.update(_BOUNDS)
