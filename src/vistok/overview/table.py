"""All runs of a folder as rows: what each is, how it differs from its recipe, where it stands, what it scored."""

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from vistok.errors import UserError
from vistok.overview.record import FINISHED, MainScore, RunRecord
from vistok.runs.find import RUNS, last_written, run_folders


@dataclass(frozen=True)
class RunRow:
    """One run. `differs`: values that differ from the recipe's; `folder`: the name of the user's own folder of images, or "". `changed`: when it last wrote, local time."""

    name: str
    path: Path
    kind: str
    recipe: str
    differs: dict[str, Any]
    folder: str
    state: str
    step: int
    steps: int | None
    seconds: float
    score: MainScore | None
    alarms: tuple[str, ...]
    changed: datetime

    @classmethod
    def of(cls, record: RunRecord) -> "RunRow":
        """Return the row of a run."""
        return cls(
            name=record.name,
            path=record.path,
            kind=record.kind,
            recipe=record.recipe,
            differs=record.differs,
            folder=Path(record.folder).name,
            state=record.state,
            step=record.step,
            steps=record.steps,
            seconds=record.seconds,
            score=record.main_score,
            alarms=tuple(alarm.name for alarm in record.alarms),
            changed=datetime.fromtimestamp(last_written(record.path)).replace(microsecond=0),
        )

    @property
    def position(self) -> str:
        """The state, with the steps done of all."""
        whole = self.state == FINISHED or not self.steps
        return f"{self.state} {self.step}" + ("" if whole else f"/{self.steps}")

    @property
    def changes(self) -> str:
        """The folder of images, if it is the user's own, and what differs from the recipe, as assignments."""
        folder = [f"{self.folder}/"] if self.folder else []
        return ", ".join([*folder, *(f"{path}={_short(value)}" for path, value in self.differs.items())])

    def as_json(self) -> dict[str, Any]:
        """Return the row as plain JSON values; of the score: metric, value, low, high, evaluator, reference, samples."""
        score = vars(self.score) if self.score else None
        plain = {**vars(self), "path": str(self.path), "score": score, "alarms": list(self.alarms)}
        return {**plain, "changed": self.changed.isoformat()}


def run_rows(runs: Path = RUNS, tell: Callable[[str], None] = lambda line: None) -> list[RunRow]:
    """Return the rows of all runs in a folder, the one that was written to last first.

    Runs that are damaged, or of another version, are left out; `tell` is told of each. Raises UserError if the folder does not exist.
    """
    if not runs.is_dir():
        raise UserError(
            f"there is no folder {runs}; runs lie where vistok train put them: name it, as in vistok runs FOLDER"
        )
    rows = []
    for folder in run_folders(runs):
        try:
            record = RunRecord(folder)
            rows.append(RunRow.of(record))
            for line in record.left_out:
                tell(f"left out: {line}")
        except (UserError, OSError) as error:
            tell(f"left out: {error}")
    return rows


def as_csv(rows: Sequence[RunRow]) -> str:
    """Return the rows as CSV: changes as JSON, and a column for each part of the score."""
    columns = [
        "name", "kind", "recipe", "differs", "folder", "state", "step", "steps", "seconds", "metric", "value", "low", "high",
        "evaluator", "reference", "samples", "treatment", "alarms", "changed", "path",
    ]  # fmt: skip
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        plain = row.as_json()
        flat = {**plain, **(plain["score"] or {}), "differs": json.dumps(row.differs), "alarms": " ".join(row.alarms)}
        writer.writerow(flat)
    return text.getvalue()


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 24 else text[:23] + "…"
