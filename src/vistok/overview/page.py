"""A run's page, made from its directory alone: how it goes, curves, pictures, alarms, scores, cost, commands."""

import json
import re
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from vistok.engine.pace import in_words
from vistok.engine.run_dir import RunDir
from vistok.errors import UserError
from vistok.files import data_uri, write_atomic
from vistok.overview.commands import made_by, next_commands
from vistok.overview.record import FINISHED, TRAINING, RunRecord
from vistok.page.render import render
from vistok.runs.curves import charts_of

PAGE, PICTURE = "page.html", "page.png"
MOST_PICTURES = 6
_SHOWN = {
    "tokenizer": ("Reconstructions", ": held-out images above what their latents keep of them"),
    "generator": ("Samples", ": the same noise at every step, one class to a column"),
}


def write_page(run: Path, training: bool = False) -> Path:
    """Write a run's page into its directory and return its path; `training`: by the run itself, which is not over.

    Raises UserError if the directory is not a run.
    """
    record = RunRecord(run)
    if training:
        record.state = TRAINING
    write_atomic(run / PAGE, page_of(record).encode(), make_folder=False)
    return run / PAGE


def write_picture(record: RunRecord) -> Path:
    """Write a run's curves and its newest sheet as one PNG and return its path."""
    from vistok.overview.curves_picture import picture_of

    write_atomic(record.path / PICTURE, picture_of(record), make_folder=False)
    return record.path / PICTURE


class RunPage:
    """Rewrites a run's page while it trains, but spends little of the training's time on it."""

    APART = 30.0  # times what the last page took, at least

    def __init__(self, run_dir: RunDir) -> None:
        self.run_dir = run_dir
        self._next = 0.0

    def update(self) -> None:
        """Write the page, unless the last one was written a moment ago."""
        started = time.monotonic()
        if started < self._next:
            return
        with self.run_dir.writing():
            write_page(self.run_dir.path, training=True)
        now = time.monotonic()
        self._next = now + self.APART * (now - started)

    def close(self) -> None:
        """Write the page of a run that has ended, one way or another."""
        with suppress(OSError, UserError):
            write_page(self.run_dir.path)


def page_of(record: RunRecord) -> str:
    """Return the page as HTML with everything inside."""
    return render("vistok.overview", "run.html.j2", live=record.state == TRAINING, **_facts(record))


def body_of(record: RunRecord) -> str:
    """Return what the page says, as HTML to be put into another page that has the look and the script."""
    return render("vistok.overview", "run_body.html.j2", **_facts(record))


def _facts(record: RunRecord) -> dict[str, Any]:
    tone, answer = verdict(record)
    shown, legend = _SHOWN.get(record.kind, ("Pictures", ""))
    return {
        "record": record,
        "tone": tone,
        "answer": answer,
        "alarms": record.alarms,
        "tiles": tiles(record),
        "pictures": _pictures(record.pictures),
        "shown": shown,
        "legend": legend,
        "charts": charts_of(record.rows, record.kind),
        "scores": [_score(score) for score in reversed(record.scores)],
        "made_by": made_by(record),
        "commands": next_commands(record),
        "differs": {path: _plain(value) for path, value in record.differs.items()},
        "config": json.dumps(record.config, indent=2),
        "sittings": [sitting for sitting in record.provenance.get("sittings", []) if isinstance(sitting, dict)],
    }


def verdict(record: RunRecord) -> tuple[str, str]:
    """Return ("good", "warn", "bad" or "", a sentence): whether a run goes well, with its main score."""
    score = f" {record.main_score}." if record.main_score else ""
    where = f"{record.state} at step {record.step:,} of {record.steps:,}" if record.steps else record.state
    if record.state == FINISHED:
        where = f"finished after {record.step:,} steps"
    if any(alarm.dead for alarm in record.alarms):
        return "bad", f"Bad: {where}, and it learned nothing that can be built on.{score}"
    if record.alarms:
        names = ", ".join(alarm.name for alarm in record.alarms)
        return "warn", f"Look at this: {where}, with the alarm{'s' * (len(record.alarms) > 1)} {names}.{score}"
    if not record.rows:
        return "", f"{where[0].upper()}{where[1:]}."
    if record.state == FINISHED and (begun := record.only_begun):
        return "warn", f"It has only begun to learn: {where}, {begun}.{score}"
    return "good", f"Good: {where}, without alarms.{score}"


def tiles(record: RunRecord) -> list[tuple[str, str]]:
    """Return (number, what it is) of position, time, speed and cost."""
    found = [(f"{record.step:,}" + (f" of {record.steps:,}" if record.steps else ""), f"steps, {record.state}")]
    if record.main_score is not None:
        of = record.main_score.evaluator or record.main_score.reference
        found.append(
            (str(record.main_score).removeprefix(record.main_score.metric), f"{record.main_score.metric}, {of}")
        )
    if record.seconds:
        found.append((in_words(record.seconds), "of training"))
    if speed := images_per_second(record.rows):
        found.append((f"{speed:,.3g}", "images a second"))
    flops = next((row["flops"] for row in reversed(record.rows) if row.get("flops")), 0.0)
    if flops:
        found.append((f"{flops:.3g}", "training FLOPs so far"))
    if params := record.resolved.get("params"):
        total = params if isinstance(params, int) else sum(params.values())  # imports of earlier versions have a number
        found.append((f"{total:,}", "parameters"))
    return found


def images_per_second(rows: Sequence[dict[str, Any]]) -> float | None:
    """Return the speed over the last training rows, validations between them included."""
    placed = [row for row in rows if row["kind"] == "train" and {"images", "seconds"} <= row.keys()][-5:]
    if len(placed) < 2 or placed[-1]["seconds"] <= placed[0]["seconds"]:
        return None
    return float((placed[-1]["images"] - placed[0]["images"]) / (placed[-1]["seconds"] - placed[0]["seconds"]))


def _pictures(files: Sequence[Path]) -> list[dict[str, Any]]:
    """Return a few sheets, spread evenly over the training, the newest last."""
    count = min(MOST_PICTURES, len(files))
    chosen = sorted({round(i * (len(files) - 1) / max(count - 1, 1)) for i in range(count)})
    found = []
    for file in (files[i] for i in chosen):
        step = re.search(r"(\d+)\.png$", file.name)
        found.append({"uri": data_uri(file.read_bytes()), "step": f"{int(step[1]):,}" if step else file.stem})
    return found


def _score(score: dict[str, Any]) -> dict[str, str]:
    protocol, treatment = score["protocol"], score.get("treatment") or {}
    sampling = treatment.get("sampling") or {name: value for name, value in treatment.items() if name != "weights"}
    made = [f"{treatment.get('weights', 'ema')} weights"]
    made += [f"{name.replace('_', ' ')} {value}" for name, value in sampling.items() if value not in (None, False, "")]
    against = [f"{protocol.get('num_reference') or ''} of {protocol.get('reference', '')}".removeprefix(" of ")]
    if protocol.get("extractor", "none") != "none":
        against.append(f"features of {protocol['extractor']}")
    against.append(f"{protocol.get('num_samples')} images")
    low, high = score.get("low"), score.get("high")
    return {
        "metric": protocol["metric"],
        "value": f"{score['value']:.4g}",
        "interval": "" if low is None or high is None else f"{low:.4g} to {high:.4g}",
        "treatment": ", ".join(made),
        "protocol": "; ".join(against),
    }


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
