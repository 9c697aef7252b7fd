"""Records: what remains of a finished run. A record is enough for its run never to be made again."""

import json
import shutil
from pathlib import Path
from typing import Any

from vistok.errors import UserError
from vistok.files import write_atomic, write_json

SCHEMA = 1


class StudyFolder:
    """`results/<study>/`: records of finished runs, tokenizers' weights, and what the report makes of them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def table(self) -> Path:
        """The table of all runs."""
        return self.path / "runs.csv"

    def record_file(self, run: str) -> Path:
        """Where a run's record lies."""
        return self.path / "records" / f"{run}.json"

    def weights_file(self, tokenizer_run: str) -> Path:
        """Where a tokenizer's averaged weights lie."""
        return self.path / "tokenizers" / f"{tokenizer_run}.safetensors"

    def sheet_file(self, run: str) -> Path:
        """Where a generator's samples lie, one PNG."""
        return self.path / "samples" / f"{run}.png"

    def finished(self, run: str) -> bool:
        """Whether a run is recorded."""
        return self.record_file(run).is_file()

    def write(self, record: dict[str, Any]) -> None:
        """Record a finished run."""
        write_json(self.record_file(record["run"]), {"schema_version": SCHEMA, **record})

    def keep_weights(self, run: str, export: Path) -> None:
        """Keep a tokenizer's weights beside the records."""
        write_atomic(self.weights_file(run), export.read_bytes())

    def records(self) -> list[dict[str, Any]]:
        """Return all records by name; raises UserError for one that is damaged or of another schema."""
        return [self.read(file) for file in sorted((self.path / "records").glob("*.json"))]

    def read(self, file: Path) -> dict[str, Any]:
        """Return one record."""
        try:
            record = json.loads(file.read_text())
            found = record["schema_version"]
        except (ValueError, TypeError, KeyError):
            raise UserError(
                f"{file} is not readable as a record; delete it, and `vistok study run` makes it anew"
            ) from None
        if found != SCHEMA:
            raise UserError(f"{file}: schema version {found}, this vistok reads {SCHEMA}")
        return record


def drop_checkpoints(run: Path) -> None:
    """Free the disk of a recorded run's checkpoints."""
    shutil.rmtree(run / "checkpoints", ignore_errors=True)
