"""Keep freed memory for the next step instead of giving it back to the system and asking for it again.

glibc returns every block above 32 MB when it is freed, and the system clears each page of the next one. Training in
256x256 on a CPU spends a third of its time so (benchmarks/allocator.py).
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
    """Let blocks up to 1 GiB (of any size, by an older glibc) stay with the process once freed; return whether glibc agrees.

    Commands and training do so: it is for the whole process and for good. Memory between peaks rises to the peak, and the
    peak by some holes. Only where glibc allocates; a user's own MALLOC_* or GLIBC_TUNABLES stand.
    """
    if platform.libc_ver()[0] != "glibc" or _chosen_by_the_user():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # Older versions take no threshold above 32 MB; there no block is mapped on its own.
    kept = mallopt(_MMAP_THRESHOLD, _LARGEST) or mallopt(_MMAP_MAX, 0)
    return bool(kept and mallopt(_TRIM_THRESHOLD, _NEVER))


def _chosen_by_the_user() -> bool:
    names = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_")
    return any(name in os.environ for name in names) or "malloc" in os.environ.get("GLIBC_TUNABLES", "")
