"""What the rows of a tokenizer's training show to be going wrong, and what to do about it.

Each alarm is a function of the rows alone, so that a resumed run raises the same ones. Rows are looked at once, as they
are written.
"""

from collections import deque
from collections.abc import Iterator, Sequence

from vistok.engine.log import Alarm, Row

LOGGED = 5  # rows in which a discriminator must win one after the other
WON = 0.1  # of the hinge loss, which is 1 where the discriminator knows nothing
FALLEN = 0.5  # of the highest usage so far
COLLAPSED = 0.05

DISCRIMINATOR = (
    "the discriminator wins (loss {value:.3f} over {rows} rows; 1 means that it knows nothing): its gradient teaches "
    "little and may tear the reconstructions apart. Lower losses.adversarial.weight, start it later "
    "(losses.adversarial.start), or give it fewer losses.adversarial.channels"
)
FALLING = (
    "codebook usage fell to {value:.1%}, from {best:.1%}: codes die. Set tokenizer.quantizer.restart_after=200, lower "
    "optimizer.lr or crt.weight, or take fewer codes"
)
UNUSED = (
    "only {value:.1%} of the codes are in use: the tokenizer wastes its codebook. Set "
    "tokenizer.quantizer.restart_after=200, or take fewer codes"
)


class TokenizerAlarms:
    """Watches the rows of one run: a function of all rows so far that returns the alarms of the newest one."""

    def __init__(self) -> None:
        self.seen = 0
        self.kinds: dict[str, _Watch] = {}

    def __call__(self, rows: Sequence[Row]) -> list[Alarm]:
        """Return the alarms that the newest row sets off; one that goes on is not raised again.

        `rows` are those of the call before and newer ones.
        """
        raised: list[Alarm] = []
        for number in range(self.seen, len(rows)):
            raised = self.kinds.setdefault(rows[number]["kind"], _Watch()).take(rows[number])
        self.seen = len(rows)
        return raised


class _Watch:
    """What the rows of one kind have shown so far."""

    def __init__(self) -> None:
        # Of the last rows; None where the discriminator did not train.
        self.losses: deque[float | None] = deque(maxlen=LOGGED)
        self.usages = 0
        self.usage = self.best = 0.0
        self.standing: set[str] = set()

    def take(self, row: Row) -> list[Alarm]:
        self.losses.append(row.get("discriminator/discriminator_loss") if "discriminator/loss" in row else None)
        if "codebook_usage" in row:
            self.usage = row["codebook_usage"]
            # Before training most codes are in use by chance: that is nothing to fall from.
            self.best = max(self.best, self.usage) if self.usages else 0.0
            self.usages += 1
        standing = list(self._standing())
        raised = [alarm for alarm in standing if alarm.name not in self.standing]
        self.standing = {alarm.name for alarm in standing}
        return raised

    def _standing(self) -> Iterator[Alarm]:
        losses = [loss for loss in self.losses if loss is not None]
        if len(losses) == LOGGED and max(losses) <= WON:
            yield Alarm("discriminator_wins", losses[-1], DISCRIMINATOR.format(value=losses[-1], rows=LOGGED))
        if self.usages >= 3 and self.usage <= FALLEN * self.best:
            yield Alarm("usage_falls", self.usage, FALLING.format(value=self.usage, best=self.best))
        if self.usages >= 2 and self.usage <= COLLAPSED:
            yield Alarm("codes_unused", self.usage, UNUSED.format(value=self.usage))
