"""The alarms recorded in the header of a run's weights, and the check that verbs make before building on that run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vistok.engine.log import Alarm, Row, last_validation
from vistok.engine.weights_header import read_header
from vistok.errors import UserError, counted
from vistok.runs.headers import check_header
from vistok.runs.weights_file import weights_file


class DeadRun(UserError):
    """Something is to be built on a run that ended dead.

    `model`: the run or file; `kind`: tokenizer or generator; `tokenizer`: itself, or the one that its generator was trained on.
    """

    def __init__(self, words: str, model: str = "", kind: str = "tokenizer", tokenizer: str = "") -> None:
        super().__init__(words)
        self.model, self.kind, self.tokenizer = model, kind, tokenizer


POSITION = ("kind", "step", "images", "flops", "seconds")


def health_record(alarms: Sequence[Alarm], rows: Sequence[Row]) -> dict[str, Any]:
    """Return a header's record of how the run ended: standing alarms, and the EMA weights' last validation."""
    last = last_validation(rows)
    measured = {name: value for name, value in last.items() if name not in POSITION and not name.endswith("_raw")}
    return {"alarms": [vars(alarm) for alarm in alarms], "validation": measured}


def alarms_in(header: dict[str, Any]) -> list[Alarm]:
    """Return the alarms that stood when a model's run ended, dead ones first; none if none were recorded."""
    alarms = [Alarm(**alarm) for alarm in header.get("health", {}).get("alarms", ())]
    return sorted(alarms, key=lambda alarm: not alarm.dead)


def alarms_of(model: str | Path) -> list[Alarm]:
    """Return the alarms of a run directory or weights file; none if it cannot be read, which loading it will report."""
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
    """Return what a closing line adds if alarms stand: their names, and what to do about the first."""
    if not alarms:
        return ""
    names = ", ".join(alarm.name for alarm in alarms)
    return f", with {counted(len(alarms), 'alarm')}: {names}. {_sentence(alarms[0])}"


def _sentence(alarm: Alarm) -> str:
    return f"{alarm.found[:1].upper()}{alarm.found[1:]}. {alarm.advice}"


def require_alive(
    model: str | Path, anyway: bool, tell: Callable[[str], None], tokenizer: str | Path | None = None
) -> None:
    """Raise DeadRun if a model's run, or that of a generator's tokenizer, ended dead; `anyway` makes it a warning.

    Other alarms are passed to `tell`. `tokenizer`: its path, if it has moved. Imported networks and runs from earlier
    versions have no alarms.
    """
    header = _header_of(model)
    if header is None:
        return
    _require_alive(model, header, anyway, tell)
    if header["model"] == "generator":
        tokenizer_path = tokenizer or header["tokenizer"]["path"]
        tokenizer_header = _header_of(tokenizer_path)
        if tokenizer_header is not None:
            _require_alive(tokenizer_path, tokenizer_header, anyway, tell)


def _require_alive(model: str | Path, header: dict[str, Any], anyway: bool, tell: Callable[[str], None]) -> None:
    for alarm in alarms_in(header):
        words = f"{header['model']} {model} ended with the alarm {alarm.name} ({alarm.value:.3g}): {alarm}"
        if alarm.dead and not anyway:
            tokenizer = header["tokenizer"]["path"] if header["model"] == "generator" else model
            raise DeadRun(f"{words}. To use it anyway, add --anyway", str(model), header["model"], str(tokenizer))
        tell(f"warning: {words}")
