"""Alarms that are told once: a notebook draws and scores the same run many times."""

from collections.abc import Callable
from pathlib import Path

from vistok.runs.health.gate import alarms_of

_told: set[tuple[str, str]] = set()


def tell_alarms(run: Path, tell: Callable[[str], None]) -> None:
    """Say which alarms a run or weights file ended with, each once in this process; the pictures and scores show the rest."""
    for alarm in alarms_of(run):
        if (str(run), alarm.name) not in _told:
            _told.add((str(run), alarm.name))
            tell(f"warning: {run.name} ended with the alarm {alarm.name}: {alarm.found}. {alarm.advice}")
