"""The time left: never more than twice off after ten seconds of steady work."""

from dataclasses import dataclass

import pytest

from vistok.engine.pace import Pace, in_words
from vistok.study.run import estimate
from vistok.study.run.estimate import Estimate


def estimates(steps, step, first, every, pause):
    """Yield (seconds since the start, seconds left as estimated, as they turn out) of a run with validations."""
    pace, now, said = Pace(steps), pause, []
    pace.pause(pause)
    for number in range(steps):
        now += first if number == 0 else step
        pace.advance(1, now)
        said.append((now, pace.left(pauses=-(-(steps - number - 1) // every))))
        if (number + 1) % every == 0 or number + 1 == steps:
            now += pause
            pace.pause(pause)
    return [(time, left, now - time) for time, left in said]


@pytest.mark.parametrize(
    ("step", "first", "every", "pause"),
    [
        (0.07, 0.1, 500, 1.0),
        (0.07, 20.0, 100, 8.0),
        (2.5, 40.0, 50, 30.0),
        (0.001, 0.001, 1000, 0.0),
        (0.3, 0.3, 7, 6.0),
    ],
)
def test_time_left_is_believable(step, first, every, pause):
    found = [
        (left, true) for time, left, true in estimates(1000, step, first, every, pause) if time > pause + first + 10
    ]
    assert all(left is not None and true / 2 <= left <= 2 * true for left, true in found if true > pause + 1)


def test_time_left_follows_a_change_of_load():
    pace, now = Pace(1000), 0.0
    for number in range(500):
        now += 0.1 if number < 300 else 0.5  # a neighbour started
        pace.advance(1, now)
    assert pace.left() == pytest.approx(500 * 0.5, rel=0.05)


def test_time_left_is_unknown_at_first_and_nothing_at_the_end():
    pace = Pace(10, done=8)
    assert pace.left() is None
    pace.advance(1, 5.0)
    assert pace.left() is None  # the first step of a sitting also warms up
    pace.advance(1, 6.0)
    assert pace.left() == 0


def test_durations_are_told_in_words():
    assert [in_words(seconds) for seconds in (40.2, 720, 9000)] == ["40 s", "12 min", "2.5 h"]


@dataclass
class Tokenizer:
    run: str
    flops: float


@dataclass
class Generator(Tokenizer):
    pass


def test_a_study_counts_each_kind_by_its_own_pace(monkeypatch):
    """Generators take ten times as long for a FLOP; after one of each, the rest is known."""
    now = [0.0]
    monkeypatch.setattr(estimate.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(estimate, "SCORING_FLOPS", 0.0)
    found = Estimate()
    assert found.left([Tokenizer("a", 1.0)], [], 2) is None
    for task, seconds in ((Tokenizer("a", 100.0), 10.0), (Generator("b", 100.0), 100.0)):
        found.begin(task)
        now[0] += seconds
        found.end(task, done=True)
    waiting = [Tokenizer("c", 200.0), Generator("d", 300.0)]
    assert found.left(waiting, [], 1) == pytest.approx(20 + 300)
    found.begin(waiting[1])
    now[0] += 100
    assert found.left(waiting[:1], waiting[1:], 1) == pytest.approx(20 + 200)
    assert found.left(waiting[:1], waiting[1:], 2) == pytest.approx(200)  # at once, as long as the longer one
