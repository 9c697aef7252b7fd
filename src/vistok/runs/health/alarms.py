"""Alarms: what the logged rows of a run show to be going wrong.

They depend on the rows alone, so a resumed run raises the same ones. The symptoms are in `tokenizer_symptoms.py` and
`generator_symptoms.py`, the advice in `advice.py`.
"""

from collections import deque
from collections.abc import Callable, Sequence
from statistics import fmean

from vistok.engine.log import Alarm, Ringing, Row

# A generator's losses that are nats per token, in training and held out; a family has one of them.
IN_NATS = ("nats_per_token", "masked_loss")
LOGGED = 5  # training rows that are looked at together
GRACE = 100  # steps after which a run can be judged before it ends
ALIKE = 25.0  # dB that the mean of all images has; of the folders in results/own_images it has 8 to 16
LONG = 3_000  # steps, the length of the recipes: who has trained so long is not told to train longer alone
FEW_UNSEEN = 100  # fewer unseen images have no hundredth that is closest to training images
TRIAL = 50  # a shorter run is only a trial: if it learned nothing, we say so but block nothing


class History:
    """The rows so far, condensed: all validations, and the last few training rows."""

    def __init__(self) -> None:
        self.step = 0
        self.train: deque[Row] = deque(maxlen=LOGGED)
        self.validations: list[Row] = []
        # For each validation: a generator's mean training loss since the validation before it; where none was logged in
        # between, the one before: else an alarm that compares both would end and begin again with every second validation.
        self.train_nats: list[float | None] = []
        self._nats: list[float] = []

    def take(self, row: Row) -> None:
        """Take in the next row."""
        self.step = row["step"]
        if row["kind"] == "train":
            self.train.append(row)
            self._nats += [row[name] for name in map("generator/{}".format, IN_NATS) if name in row]
        elif row["kind"] == "validation":
            self.validations.append(row)
            before = self.train_nats[-1] if self.train_nats else None
            self.train_nats.append(fmean(self._nats) if self._nats else before)
            self._nats = []


Symptom = Callable[[History], Alarm | None]


class Alarms:
    """Watches the rows of one run, seeing each row once."""

    def __init__(self, symptoms: Sequence[Symptom]) -> None:
        self.symptoms = symptoms
        self.history, self.seen = History(), 0
        self.standing: tuple[Alarm, ...] = ()

    def __call__(self, rows: Sequence[Row]) -> Ringing:
        """Return the alarms standing after the newest row, and what it changed; `rows` extends the previous call's."""
        before = self.standing
        for number in range(self.seen, len(rows)):
            before = self.standing
            self.history.take(rows[number])
            alarms = (symptom(self.history) for symptom in self.symptoms)
            self.standing = tuple(alarm for alarm in alarms if alarm is not None)
        self.seen = len(rows)
        old, new = {alarm.name for alarm in before}, {alarm.name for alarm in self.standing}
        raised = tuple(alarm for alarm in self.standing if alarm.name not in old)
        return Ringing(self.standing, raised, tuple(alarm.name for alarm in before if alarm.name not in new))
