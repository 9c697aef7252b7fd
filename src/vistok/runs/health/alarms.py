"""Alarms: what the rows of a run show to be going wrong.

A function of the rows alone, so that a resumed run raises the same ones. What is looked for is in `tokenizer.py`
and `generator.py`, what is advised in `advice.py`.
"""

from collections import deque
from collections.abc import Callable, Sequence
from statistics import fmean

from vistok.engine.log import Alarm, Ringing, Row

LOGGED = 5  # rows of training that are looked at together
GRACE = 100  # steps after which a run can be judged before its end
TRIAL = 50  # a run of fewer steps tries things out: that it learned nothing is told, and stops nobody


class History:
    """What the rows so far come to: all validations, and the last rows of training."""

    def __init__(self) -> None:
        self.step = 0
        self.train: deque[Row] = deque(maxlen=LOGGED)
        self.validations: list[Row] = []
        # Mean training loss of a generator between a validation and the one before it.
        self.train_nats: list[float | None] = []
        self._nats: list[float] = []

    def take(self, row: Row) -> None:
        """Take in the next row."""
        self.step = row["step"]
        if row["kind"] == "train":
            self.train.append(row)
            self._nats += [row["generator/nats_per_token"]] if "generator/nats_per_token" in row else []
        elif row["kind"] == "validation":
            self.validations.append(row)
            self.train_nats.append(fmean(self._nats) if self._nats else None)
            self._nats = []


Symptom = Callable[[History], Alarm | None]


class Alarms:
    """Watches the rows of one run, each of them once."""

    def __init__(self, symptoms: Sequence[Symptom]) -> None:
        self.symptoms = symptoms
        self.history, self.seen = History(), 0
        self.standing: tuple[Alarm, ...] = ()

    def __call__(self, rows: Sequence[Row]) -> Ringing:
        """Return what stands after the newest row, and what it changed; `rows` are those of the call before and newer ones."""
        before = self.standing
        for number in range(self.seen, len(rows)):
            before = self.standing
            self.history.take(rows[number])
            found = (symptom(self.history) for symptom in self.symptoms)
            self.standing = tuple(alarm for alarm in found if alarm is not None)
        self.seen = len(rows)
        old, new = {alarm.name for alarm in before}, {alarm.name for alarm in self.standing}
        raised = tuple(alarm for alarm in self.standing if alarm.name not in old)
        return Ringing(self.standing, raised, tuple(alarm.name for alarm in before if alarm.name not in new))
