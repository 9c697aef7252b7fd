"""What state a run is in, how far it is, and what it says of itself in one number."""

import fcntl
import os
from pathlib import Path
from typing import Any

from vistok.engine.log import Alarm, read_rows
from vistok.engine.run_dir import RunDir
from vistok.python.stored import stored_scores
from vistok.python.words import in_words

DISTANCES = ("gfid", "gfmd", "rfid", "rfmd")
# What a validation measures, by the name in its row: the most telling first.
MEASURED = (("psnr", "PSNR", " dB"), ("nats_per_token", "nats per token", ""), ("matching_loss", "matching loss", ""), ("accuracy", "accuracy", ""))


def state_of(run: RunDir) -> str:
    """Return "training", "finished", "stopped" or "new"."""
    if run.finished:
        return "finished"
    if _locked(run.path / "lock"):
        return "training"
    return "stopped" if any(run.checkpoints.glob("step-*")) else "new"


def _locked(lock: Path) -> bool:
    try:
        handle = os.open(lock, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(handle)


def steps_of(run: RunDir) -> tuple[int, int]:
    """Return the last step with a row, and the number of steps in all; 0 where that is unknown."""
    rows = read_rows(run.metrics)
    resolved: dict[str, Any] = run.read("resolved.json") or {}
    return max((row["step"] for row in rows), default=0), int(resolved.get("steps", 0))


def alarms_of_run(run: RunDir) -> list[Alarm]:
    """Return the alarms that stood when a finished run ended; of another, those among its rows."""
    from vistok.runs.health.gate import alarms_of

    if run.finished:
        return alarms_of(run.path)
    rows = {row["alarm"]: row for row in read_rows(run.metrics) if row["kind"] == "alarm" and "alarm" in row}
    return [Alarm(name, float(row.get("value", 0)), str(row.get("advice", "")), "") for name, row in rows.items()]


def main_score(path: Path, rows: list[dict[str, Any]]) -> str:
    """Return the run's main score in words: its newest Fréchet distance, or what the last validation measured; or ""."""
    distances = [score for score in stored_scores(path) if score.protocol.metric.lower() in DISTANCES]
    if distances:
        return in_words(distances[-1])
    last: dict[str, Any] = next((row for row in reversed(rows) if row["kind"] == "validation"), {})
    return next((f"{words} {last[name]:.4g}{unit}" for name, words, unit in MEASURED if name in last), "")
