"""Which of the CPU's caches the C++ step prefetches weights into: what is quickest differs between CPUs, and is measured.

On an Intel Xeon it is the first; on an AMD EPYC (Zen 4) weights are read 1.6 times as fast through the second. The measurement
takes a tenth of a second, is made for models whose weights no cache holds, and is remembered beside the compiled file. What is
computed is the same, bit for bit.
"""

import ctypes
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import torch

from vistok.files import write_atomic

FIRST, SECOND = 1, 2
# Weights of fewer bytes may stay in a cache, where prefetching makes no difference.
LEAST_BYTES = 2**26
# Of the weight that is read: 128 MiB, more than the caches of most CPUs. With four rows caches differ most clearly.
OUT, IN, ROWS, ROUNDS = 2**15, 2**10, 4, 6
# The second cache is chosen if it is at least so many times as fast as the first.
WORTH = 1.04


def cache_for(compiled: ctypes.CDLL, weight_bytes: int) -> int:
    """Return which cache to prefetch into, for weights of so many bytes."""
    return FIRST if weight_bytes < LEAST_BYTES else _quickest(compiled)


@cache
def _quickest(compiled: ctypes.CDLL) -> int:
    """Return what was remembered; else measure, and remember it where the library stays."""
    library = Path(compiled._name)
    file = library.with_suffix(".so.cache")
    with suppress(OSError, ValueError):
        if (known := int(file.read_text())) in (FIRST, SECOND):
            return known
    found = _measured(compiled)
    if library.is_file():  # not in a folder that is gone
        with suppress(OSError):
            write_atomic(file, str(found).encode())
    return found


def _measured(compiled: ctypes.CDLL) -> int:
    """Return the cache through which a large weight is read in the least time, in turns so that a load hits both."""
    weight, x, y = torch.ones(OUT, IN), torch.ones(ROWS, IN), torch.empty(ROWS, OUT)
    out, inputs, rows, threads = map(ctypes.c_int64, (OUT, IN, ROWS, torch.get_num_threads()))
    seconds: dict[int, list[float]] = {FIRST: [], SECOND: []}
    for _ in range(ROUNDS):
        for level, taken in seconds.items():
            started = time.perf_counter()
            where = ctypes.c_int64(level)
            compiled.product(_pointer(weight), out, inputs, _pointer(x), rows, threads, where, _pointer(y))
            taken.append(time.perf_counter() - started)
    return SECOND if min(seconds[FIRST]) > WORTH * min(seconds[SECOND]) else FIRST


def _pointer(tensor: torch.Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
