"""How many threads a command works with: it leaves processors that other programs keep busy to them.

The threads of an operation wait for the slowest of them, and one that shares its processor with another program is slow. On two
processors beside one, two and four busy programs, a short training of Fashion-MNIST's tokenizer took 1.9, 2.7 and 17 times as long as
alone with two threads, and 1.1, 1.9 and 3.0 times with those that were left (benchmarks/neighbours.py).

Results depend on the number of threads in their last digits, so a run keeps the number that it began with.
"""

import os
import statistics
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

# What libraries read for their number of threads; the first, where the others are not set, stands for all.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_VARIABLE = THREAD_VARIABLES[0]
_STAT = Path("/proc/stat")
_TOPOLOGY = Path("/sys/devices/system/cpu")
_TASKS = Path("/proc/self/task")
# Looks at what runs, and the seconds between them: a shell that has just started the command is gone after some.
LOOKS, APART = 5, 0.005
# Seconds between two looks at how long threads have waited, and the share of a thread's time from which it is worth a word.
WATCHED, MUCH = 30.0, 0.35

_ours = False  # whether this command chose its number of threads


def allowed() -> Collection[int]:
    """Return the numbers of the processors that this process may use."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def cores() -> int:
    """Return the cores that this process may use; two hardware threads of one core count once, as torch counts them."""
    known = set()
    for number in allowed():
        with suppress(OSError):
            known.add((_TOPOLOGY / f"cpu{number}/topology/thread_siblings_list").read_text())
    return len(known) or len(allowed())


def others() -> int:
    """Return how many threads of other programs want to run, in the middle of a few looks; 0 where that is unknown."""
    found = []
    for look in range(LOOKS):
        time.sleep(APART if look else 0)
        try:
            lines = _STAT.read_text().splitlines()
        except OSError:  # not Linux
            return 0
        running = next((int(line.split()[1]) for line in lines if line.startswith("procs_running ")), 1)
        found.append(max(0, running - 1))  # this one runs, too
    return int(statistics.median_low(found))


def leave_room() -> None:
    """Choose this process's threads, and those of its children, unless the user has. Call it before importing torch.

    There are as many as cores that other programs leave, but at least one.
    """
    global _ours  # noqa: PLW0603
    if _VARIABLE in os.environ:
        return
    _ours = True
    free = max(1, (os.cpu_count() or 1) - others())
    if free < cores():
        os.environ[_VARIABLE] = str(free)


def without_choice(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a child that chooses anew: it may start when other programs have ended."""
    return {name: value for name, value in environment.items() if not (_ours and name == _VARIABLE)}


def threads_of(began: dict[str, object] | None, cpu: str) -> int | None:
    """Return with how many threads a run goes on, by the record of its beginning; None: as this process has them.

    It is the number that it began with, unless the user chose another, or this is another machine.
    """
    if not _ours or began is None or (began.get("cpu"), began.get("cores")) != (cpu, os.cpu_count()):
        return None
    threads = began.get("threads")
    return threads if isinstance(threads, int) and threads > 0 else None


def told(threads: int, goes_on: bool) -> str | None:
    """Return what a user should know about a run's number of threads, where this command chose it; or None."""
    most = cores()
    if not _ours or threads >= most:
        return None
    why = "as when it began" if goes_on else "as other programs are busy"
    return (
        f"this run works with {threads} of {most} processors, {why}; --set execution.threads={most} takes all of them, and "
        "changes the last digits of its results"
    )


class Waiting:
    """Notices when the threads of this process wait for processors; says so once."""

    def __init__(self) -> None:
        self._before = time.monotonic(), _waited()
        self._told = False

    def advice(self, threads: int) -> str | None:
        """Return what to do where `threads` threads have waited for long in the last half minute, the first time; or None."""
        now = time.monotonic()
        seconds = now - self._before[0]
        if self._told or threads == 1 or seconds < WATCHED:
            return None
        waited = _waited()
        added = waited - self._before[1]
        self._before = now, waited
        if added < MUCH * seconds:
            return None
        self._told = True
        fewer = max(1, threads - max(1, round(added / seconds)))
        return (
            f"other programs use the processors: in {seconds:.0f} s, threads of this run waited {added:.0f} s for them. Fewer "
            f"threads may be faster: stop the run, and repeat the command with --set execution.threads={fewer}"
        )


def _waited() -> float:
    """Return for how many seconds the threads of this process have waited for a processor; 0 where that is unknown."""
    total = 0
    with suppress(OSError):
        for task in _TASKS.iterdir():
            with suppress(OSError, IndexError, ValueError):  # a thread that has just ended
                total += int((task / "schedstat").read_text().split()[1])
    return total / 1e9
