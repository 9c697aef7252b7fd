"""The time left: never more than twice off after ten seconds of steady work."""

from dataclasses import dataclass, replace

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
class Toy:
    """As much of a task as the estimate reads."""

    kind: str
    run: str
    flops: float


def record(seconds, flops, scoring=None):
    return {
        "row": {"seconds": seconds, "train_flops": flops},
        **({} if scoring is None else {"scoring_seconds": scoring}),
    }


def test_a_study_counts_training_and_scores_of_each_kind_apart(monkeypatch):
    """Generators take ten times as long for a FLOP, and half a minute for their scores however long they train."""
    now = [0.0]
    monkeypatch.setattr(estimate.time, "monotonic", lambda: now[0])
    found = Estimate()
    assert found.left([Toy("tokenizer", "a", 1.0)], [], 2) is None and found.words([], [], 1) == ""

    def ran(task, trained, scoring):
        found.begin(task)
        now[0] += trained + scoring
        found.end(task, True, record(trained, task.flops, scoring))

    ran(Toy("tokenizer", "a", 100.0), 10.0, 5.0)
    waiting = [Toy("tokenizer", "c", 200.0), Toy("generator", "d", 300.0)]
    assert found.words(waiting[:1], [], 1) == "about 25 s left"  # twice the training, the same scores
    assert found.words(waiting, [], 1) == (
        "about 55 s left and the scores of generators, none of which has been scored yet"
    )
    ran(Toy("generator", "b", 100.0), 100.0, 30.0)
    assert found.left(waiting, [], 1) == pytest.approx(20 + 5 + 300 + 30)
    assert found.words(waiting, [], 1) == "about 6 min left"
    found.begin(waiting[1])
    now[0] += 100
    assert found.left(waiting[:1], waiting[1:], 1) == pytest.approx(25 + 230)
    assert found.left(waiting[:1], waiting[1:], 2) == pytest.approx(230)  # at once, as long as the longer one
    found.end(waiting[1], False)  # one that failed tells nothing
    assert found.left(waiting, [], 1) == pytest.approx(20 + 5 + 300 + 30)


def test_what_an_earlier_sitting_recorded_tells_the_time_until_this_one_knows_better(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(estimate.time, "monotonic", lambda: now[0])
    found = Estimate()
    found.learn(Toy("generator", "a", 100.0), record(50.0, 100.0, 10.0))
    found.learn(Toy("generator", "b", 100.0), record(50.0, 100.0))  # of a version that did not time its scores
    assert found.left([Toy("generator", "c", 200.0)], [], 1) == pytest.approx(110)
    found.begin(Toy("tokenizer", "t", 100.0))
    now[0] += 8
    found.end(Toy("tokenizer", "t", 100.0), True, record(7.0, 100.0, 1.0))
    assert found.left([Toy("generator", "c", 200.0)], [], 1) == pytest.approx(110)  # another kind tells nothing of it
    found.begin(Toy("generator", "c", 200.0))
    now[0] += 25  # ten times as fast as the earlier machine
    found.end(Toy("generator", "c", 200.0), True, record(20.0, 200.0, 5.0))
    assert found.left([Toy("generator", "d", 100.0)], [], 1) == pytest.approx(10 + 5)


def test_a_run_from_a_checkpoint_costs_what_is_left_of_it():
    from vistok.recipes import find_recipe
    from vistok.study.run.estimate import own_flops
    from vistok.study.run.grid import GeneratorTask, TokenizerTask

    study = find_recipe("debug_study")
    tokenizer = TokenizerTask("t", "none", study.tokenizer, 1.0)
    whole = GeneratorTask("g", "s", study.generator, tokenizer, 1000.0, 40, 32)
    assert own_flops(whole) == 1000.0
    assert own_flops(replace(whole, trunk="longer")) == pytest.approx(200.0)


@pytest.mark.parametrize("speed", [0.6, 1.0, 1.6])
def test_time_left_of_few_large_parts(speed):
    """The full demo said "about 2 min left" after five of its 22 minutes: two tokenizers had ended within seconds."""
    stages = (300, 15, 20, 30, 5, 35)
    total = 6 * sum(stages)
    pace, now = Pace(total, expect=2.0, now=0.0), 0.0
    true = total / 2 / speed
    assert 0.5 * true < pace.left() < 2 * true  # before anything has ended
    for _ in range(3):
        for stage in stages:
            now += stage / speed
            pace.advance(stage, now)  # of one arm, and just after it of the other
            pace.advance(stage, now + 2)
            left, rest = pace.left(), true - now - 2
            assert left < 2 * rest + 10 and left > rest / 2
