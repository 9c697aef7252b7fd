"""What the rows of a tokenizer's training show to be going wrong, and what to do about it.

Each alarm is a function of the rows alone, so that a resumed run raises the same ones.
"""

from collections.abc import Callable, Sequence

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


def tokenizer_alarms(rows: Sequence[Row]) -> list[Alarm]:
    """Return the alarms that the newest row sets off; one that goes on is not raised again."""
    if not rows:
        return []
    alike = [row for row in rows if row["kind"] == rows[-1]["kind"]]
    before = {alarm.name for alarm in _standing(alike[:-1])}
    return [alarm for alarm in _standing(alike) if alarm.name not in before]


def _standing(rows: Sequence[Row]) -> list[Alarm]:
    checks: tuple[Callable[[Sequence[Row]], Alarm | None], ...] = (_discriminator, _falling, _unused)
    return [alarm for check in checks if (alarm := check(rows)) is not None]


def _discriminator(rows: Sequence[Row]) -> Alarm | None:
    losses = [row["discriminator/discriminator_loss"] for row in rows[-LOGGED:] if "discriminator/loss" in row]
    if len(losses) < LOGGED or max(losses) > WON:
        return None
    return Alarm("discriminator_wins", losses[-1], DISCRIMINATOR.format(value=losses[-1], rows=LOGGED))


def _falling(rows: Sequence[Row]) -> Alarm | None:
    usage = [row["codebook_usage"] for row in rows if "codebook_usage" in row]
    # Before training most codes are in use by chance: that is nothing to fall from.
    if len(usage) < 3 or usage[-1] > FALLEN * max(usage[1:]):
        return None
    return Alarm("usage_falls", usage[-1], FALLING.format(value=usage[-1], best=max(usage[1:])))


def _unused(rows: Sequence[Row]) -> Alarm | None:
    usage = [row["codebook_usage"] for row in rows if "codebook_usage" in row]
    if len(usage) < 2 or usage[-1] > COLLAPSED:
        return None
    return Alarm("codes_unused", usage[-1], UNUSED.format(value=usage[-1]))
