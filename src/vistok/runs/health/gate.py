"""What remains of a run's alarms: in the header of its weights, for the verbs that build on it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vistok.engine.log import Alarm, Row
from vistok.engine.weights import read_header
from vistok.errors import UserError
from vistok.runs.headers import check_header
from vistok.runs.load import weights_file

POSITION = ("kind", "step", "images", "flops", "seconds")


def health_record(alarms: Sequence[Alarm], rows: Sequence[Row]) -> dict[str, Any]:
    """Return what a header says of a run's end: the alarms that stand, and the last validation of the averaged weights."""
    last: Row = next((row for row in reversed(rows) if row["kind"] == "validation"), {})
    measured = {name: value for name, value in last.items() if name not in POSITION and not name.endswith("_raw")}
    return {"alarms": [vars(alarm) for alarm in alarms], "validation": measured}


def alarms_in(header: dict[str, Any]) -> list[Alarm]:
    """Return the alarms that stood when a model's run ended, dead ones first; none where none were recorded."""
    found = [Alarm(**alarm) for alarm in header.get("health", {}).get("alarms", ())]
    return sorted(found, key=lambda alarm: not alarm.dead)


def alarms_of(model: str | Path) -> list[Alarm]:
    """Return the alarms of a run directory or a weights file; none where it cannot be read, which its reader will say."""
    header = _header_of(model)
    return alarms_in(header) if header else []


def _header_of(model: str | Path) -> dict[str, Any] | None:
    try:
        file = weights_file(model)
        header = read_header(file)
        check_header(header, file)
    except UserError:
        return None
    return header


def closing_words(alarms: Sequence[Alarm]) -> str:
    """Return how the last line of training goes on where alarms stand: their names, and what to do about the first."""
    if not alarms:
        return ""
    names = ", ".join(alarm.name for alarm in alarms)
    return f", with {len(alarms)} alarm{'s' * (len(alarms) > 1)}: {names}. {_sentence(alarms[0])}"


def _sentence(alarm: Alarm) -> str:
    return f"{alarm.found[:1].upper()}{alarm.found[1:]}. {alarm.advice}"


def require_alive(
    model: str | Path, anyway: bool, tell: Callable[[str], None], tokenizer: str | Path | None = None
) -> None:
    """Raise UserError where a model's run, or that of a generator's tokenizer, ended dead; `anyway` makes it a warning.

    Other alarms are told. `tokenizer`: where it moved. Imported networks and runs of earlier versions have none.
    """
    header = _header_of(model)
    if header is None:
        return
    _ask(model, header, anyway, tell)
    if header["model"] == "generator":
        own = tokenizer or header["tokenizer"]["path"]
        of = _header_of(own)
        if of is not None:
            _ask(own, of, anyway, tell)


def _ask(model: str | Path, header: dict[str, Any], anyway: bool, tell: Callable[[str], None]) -> None:
    for alarm in alarms_in(header):
        words = f"{header['model']} {model} ended with the alarm {alarm.name} ({alarm.value:.3g}): {alarm}"
        if alarm.dead and not anyway:
            raise UserError(f"{words}. To build on it all the same, add --anyway")
        tell(f"warning: {words}")
