"""Threads that wait for each other, on a machine that has something else to do.

The threads of OpenMP meet at the end of every operation. One that comes early spins, so that it is there at once; where a
neighbour holds the core of the one that it waits for, it spins away the time that this one needs, and a command takes
five times as long as its fair share (benchmarks/neighbours.py). With a bound it spins as long as an idle machine needs,
then gives its core away.
"""

import os

# About 0.1 ms on the processors that were measured; GNU's default without a policy is some ms.
_BOUNDS = {"GOMP_SPINCOUNT": "20000"}
_CHOSEN = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def bound_spinning() -> None:
    """Bound the spinning of this process and of those that it starts. Call it before torch is loaded: OpenMP reads it once.

    A user's own choice stands, by any of the variables that decide it.
    """
    if not any(name in os.environ for name in _CHOSEN):
        os.environ.update(_BOUNDS)
