"""The run directory is the state: config, resolved numbers, provenance, metrics, checkpoints, exports."""

import fcntl
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vistok.config import Config
from vistok.errors import UserError
from vistok.files import write_json

SCHEMA = 1


class RunDir:
    """`runs/<name>-<fingerprint>/`; as a context it is locked against other processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """Folder of sheets made during training."""
        return self.path / "samples"

    @property
    def metrics(self) -> Path:
        """The file of rows."""
        return self.path / "metrics.jsonl"

    def export(self, weights: str = "ema") -> Path:
        """The weights to use: averaged, or raw."""
        return self.path / "export" / ("model.safetensors" if weights == "ema" else f"{weights}.safetensors")

    @property
    def finished(self) -> bool:
        """Whether training came to its end."""
        return (self.path / "finished.json").is_file()

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            self._lock = None
            raise UserError(
                f"run directory {self.path}: another process is writing it; wait for it or stop it, then repeat"
            ) from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def start(self, config: Config, resolved: dict[str, Any], processes: int = 1) -> list[str]:
        """Write config, resolved numbers and provenance; return warnings where a resume is elsewhere."""
        now = {**provenance(), "processes": processes}
        write_json(self.path / "config.json", {"schema_version": SCHEMA, **json.loads(config.to_json())})
        write_json(self.path / "resolved.json", {"schema_version": SCHEMA, **resolved})
        before = self.read("provenance.json")
        if before is None:
            write_json(self.path / "provenance.json", {"schema_version": SCHEMA, **now})
            return []
        differing = [
            name for name in ("torch", "numpy", "cpu", "threads", "processes") if before.get(name) != now[name]
        ]
        return [
            f"{name} was {before.get(name)!r} when the run began and is {now[name]!r} now: the result may differ in "
            "the last digits"
            for name in differing
        ]

    def finish(self, **facts: Any) -> None:
        """Mark the run as finished, with its last numbers."""
        write_json(self.path / "finished.json", {"schema_version": SCHEMA, **facts})

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a JSON file of the run, or None where there is none; raises UserError where it is damaged."""
        path = self.path / name
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            raise UserError(f"{path} is not readable JSON; delete the file and repeat the command") from None

    def read_config(self) -> dict[str, Any]:
        """Return the run's config as JSON values; raises UserError where the directory is no run."""
        config = self.read("config.json")
        if config is None:
            raise UserError(f"{self.path} is not a run directory: it has no config.json")
        found = config.pop("schema_version", None)
        if found != SCHEMA:
            raise UserError(f"{self.path}/config.json: schema version {found}, this vistok reads {SCHEMA}")
        return config


def provenance() -> dict[str, Any]:
    """Return code, versions and hardware, as far as they can be told."""
    import torch

    packages = ("vistok", "torch", "torchvision", "torchmetrics", "numpy", "scipy", "safetensors")
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        **{name: _version(name) for name in packages},
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """Ask git about the checkout that this code lies in; None for an installed package."""
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
