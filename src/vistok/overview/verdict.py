"""How a run went, in a sentence: its alarms, or what it has reached."""

from vistok.engine.log import last_validation
from vistok.overview.record import RunRecord
from vistok.runs.curves import headline
from vistok.runs.health.gate import alarms_of, closing_words
from vistok.runs.health.only_begun import longer, not_judged


def verdict(record: RunRecord) -> str:
    """Return the sentence for a finished run."""
    if alarms := alarms_of(record.path):
        return f"It went badly{closing_words(alarms)}."
    figures = headline(record.rows, record.kind)
    if begun := record.only_begun:
        return f"It has only begun to learn: {figures}, {begun}. {longer(last_validation(record.rows)['step'])}"
    if not_judged(record.rows):
        return f"It is done: {figures}; held-out pictures are too few, or all alike, to say how good that is."
    return f"It went well: {figures}."
