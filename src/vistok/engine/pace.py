"""How long work will still take, from the pace of its recent steps."""

from collections import deque

# Seconds of steps that count as recent, and the shortest time between two marks that are kept.
WINDOW, APART = 15.0, 0.1
# Seconds for which an expected pace is believed as much as what was seen.
BELIEF = 120.0


class Pace:
    """The pace of steps of one kind. What happens between them, such as validations, is timed apart.

    The first step is not counted: it also warms up, or compiles. All times are seconds of a clock of the caller's.

    Work in few large parts has no recent pace. It is told how many steps a second to `expect`, and since when, `now`; then all that was
    done since counts.
    """

    def __init__(self, total: float, done: float = 0, expect: float | None = None, now: float = 0.0) -> None:
        self.total, self.done = total, done
        self._expect, self._began = expect, (now, done)
        self._marks: deque[tuple[float, float]] = deque()
        self._pauses: list[float] = []

    def advance(self, count: float, now: float) -> None:
        """Note that more steps are done."""
        self.done = min(self.done + count, self.total)  # with several processes, the others' part is an estimate
        if len(self._marks) > 1 and now - self._marks[-2][0] < APART:
            self._marks.pop()
        self._marks.append((now, self.done))
        while len(self._marks) > 2 and now - self._marks[1][0] >= WINDOW:
            self._marks.popleft()

    def pause(self, seconds: float) -> None:
        """Note that something else took so long just now."""
        self._pauses.append(seconds)
        self._marks = deque((time + seconds, done) for time, done in self._marks)

    @property
    def rate(self) -> float | None:
        """Steps per second lately; None where nothing tells yet."""
        if self._expect is not None:
            (started, before), (now, done) = self._began, (self._marks or [self._began])[-1]
            return (done - before + self._expect * BELIEF) / (now - started + BELIEF)
        if len(self._marks) < 2 or self._marks[-1][1] <= self._marks[0][1]:
            return None
        (started, before), (now, done) = self._marks[0], self._marks[-1]
        return (done - before) / (now - started)

    def left(self, pauses: int = 0) -> float | None:
        """Return the seconds left, with so many pauses to come like the latest; None where nothing tells yet."""
        if self.done >= self.total:
            steps = 0.0
        elif (rate := self.rate) is None:
            return None
        else:
            steps = (self.total - self.done) / rate
        return steps + (pauses * self._pauses[-1] if self._pauses else 0.0)


def in_words(seconds: float) -> str:
    """Return a duration as it is told: "40 s", "12 min", "2.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
