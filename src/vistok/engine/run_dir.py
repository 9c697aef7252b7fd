"""The run directory holds all state: config, resolved numbers, provenance, metrics, checkpoints, exports."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vistok.config import Config
from vistok.engine.provenance import differences, provenance
from vistok.errors import UserError
from vistok.files import read_json, sweep, write_json

SCHEMA = 1


class RunDir:
    """`runs/<name>-<fingerprint>/`; used as a context manager, it is locked against other processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder: int | None = None
        self._lock: int | None = None

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """The folder of sample sheets made during training."""
        return self.path / "samples"

    @property
    def metrics(self) -> Path:
        """The file of metric rows."""
        return self.path / "metrics.jsonl"

    def export(self, weights: str = "ema") -> Path:
        """The file of exported weights, EMA or raw."""
        return self.path / "export" / ("model.safetensors" if weights == "ema" else f"{weights}.safetensors")

    @property
    def finished(self) -> bool:
        """Whether training ran to its end."""
        return (self.path / "finished.json").is_file()

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True, exist_ok=True)
        self._folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        self._lock = os.open("lock", os.O_RDWR | os.O_CREAT, 0o666, dir_fd=self._folder)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._close()
            raise UserError(
                f"run directory {self.path}: another process is writing it; wait for it or stop it, then repeat"
            ) from None
        for folder in (self.path, self.checkpoints, self.export().parent, self.samples, self.path / "evaluations"):
            sweep(folder)  # leftovers of killed writers
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._drop_empty()
        self._close()

    def _drop_empty(self) -> None:
        """Remove the directory if it holds the lock alone."""
        with suppress(OSError):
            if os.listdir(self.path) == ["lock"]:
                (self.path / "lock").unlink()
                self.path.rmdir()

    def _close(self) -> None:
        for handle in (self._lock, self._folder):
            if handle is not None:
                os.close(handle)
        self._lock = self._folder = None

    @contextmanager
    def writing(self, folder: Path | None = None) -> Iterator[None]:
        """Write below the run directory; raises UserError if, before or after, it is no longer the one that was locked.

        Writing must not recreate a directory that was moved away, as that would be half a run. So only `folder`, directly
        below it, is created here, and the block must create none.
        """
        self._require_here()
        try:
            if folder is not None:
                folder.mkdir(exist_ok=True, parents=self._folder is None)
            yield
        except OSError:
            self._require_here()
            raise
        self._require_here()

    def _require_here(self) -> None:
        if self._folder is None:
            return
        locked, present = os.fstat(self._folder), None
        with suppress(FileNotFoundError, NotADirectoryError):
            present = os.stat(self.path)
        if present is None or (locked.st_dev, locked.st_ino) != (present.st_dev, present.st_ino):
            raise UserError(
                f"run directory {self.path} was moved or removed while it was being written; the run stops. If you "
                "moved it, move it back and repeat the command to resume; else repeat the command to start over"
            )

    def start(self, config: Config, resolved: dict[str, Any], processes: int = 1) -> list[str]:
        """Write config, resolved numbers and provenance; return warnings if the run began elsewhere or with other code.

        The top-level fields of provenance.json describe the first sitting; `sittings` lists all of them, each with the
        number of its `process`, which tells who trains the run while its lock is held.
        """
        self._write_config(config)
        write_json(self.path / "resolved.json", {"schema_version": SCHEMA, **resolved})
        now = {**provenance(), "processes": processes}
        sitting = {**now, "process": os.getpid()}
        before = self.read("provenance.json")
        if before is None:
            first_sitting = {"from_step": 0, **sitting}
            write_json(self.path / "provenance.json", {"schema_version": SCHEMA, **now, "sittings": [first_sitting]})
            return []
        first = {name: value for name, value in before.items() if name not in ("schema_version", "sittings")}
        # Runs of earlier versions recorded only the first sitting.
        sittings = _sittings(before, self.path) or [{"from_step": 0, **first}]
        write_json(self.path / "provenance.json", {**before, "sittings": [*sittings, {"from_step": None, **sitting}]})
        return differences(before, now)

    def keep_config(self, config: Config) -> None:
        """Write the config anew if it is missing or damaged; one of another version stays."""
        try:
            known = self.read("config.json") is not None
        except UserError:
            known = False
        if not known:
            self._write_config(config)

    def _write_config(self, config: Config) -> None:
        write_json(self.path / "config.json", {"schema_version": SCHEMA, **json.loads(config.to_json())})

    def goes_on_from(self, step: int) -> None:
        """Record the step that this sitting resumes from, once it is known."""
        record = self.read("provenance.json")
        if record is not None and (sittings := _sittings(record, self.path)):
            sittings[-1]["from_step"] = step
            write_json(self.path / "provenance.json", record, make_folder=False)

    def finish(self, **facts: Any) -> None:
        """Mark the run as finished, with its final numbers."""
        write_json(self.path / "finished.json", {"schema_version": SCHEMA, **facts}, make_folder=False)

    def read(self, name: str) -> dict[str, Any] | None:
        """Return the contents of one of the run's JSON files, or None if absent; raises UserError if it is damaged."""
        path = self.path / name
        try:
            return read_json(path, str(path), "delete the file and repeat the command")
        except FileNotFoundError:
            return None

    def read_config(self) -> dict[str, Any]:
        """Return the run's config as JSON values; raises UserError if the directory is not a run."""
        config = self.read("config.json")
        if config is None:
            raise UserError(f"{self.path} is not a run directory: it has no config.json")
        version = config.pop("schema_version", None)
        if version != SCHEMA:
            raise UserError(f"{self.path}/config.json: schema version {version}, this vistok reads {SCHEMA}")
        return config


def _sittings(record: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """Return the sittings in a provenance.json; runs of earlier versions have none."""
    sittings = record.get("sittings", [])
    if not isinstance(sittings, list) or not all(isinstance(sitting, dict) for sitting in sittings):
        raise UserError(f"{path}/provenance.json: damaged (sittings); delete the file and repeat the command")
    return sittings
