"""Keep freed memory for the next step instead of returning it to the system and requesting it again.

glibc returns every freed block above 32 MB to the system, which then clears each page of the next one. Training at
256x256 on a CPU spends a third of its time on this (benchmarks/allocator.py).
"""

import ctypes
import os
import platform
from functools import cache

# From glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_LARGEST = 2**30
_NEVER = -1


@cache
def keep_freed_memory() -> bool:
    """Keep freed blocks up to 1 GiB (any size, with an older glibc) in the process; return whether glibc agreed.

    Commands and training call this; it affects the whole process, permanently. Memory between peaks stays at the peak,
    and the peak grows by some fragmentation. Only with glibc; a user's own MALLOC_* or GLIBC_TUNABLES take precedence.
    """
    if platform.libc_ver()[0] != "glibc" or _chosen_by_the_user():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # Older versions accept no threshold above 32 MB; with them, stop mapping blocks separately.
    kept = mallopt(_MMAP_THRESHOLD, _LARGEST) or mallopt(_MMAP_MAX, 0)
    return bool(kept and mallopt(_TRIM_THRESHOLD, _NEVER))


def _chosen_by_the_user() -> bool:
    names = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_")
    return any(name in os.environ for name in names) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")
