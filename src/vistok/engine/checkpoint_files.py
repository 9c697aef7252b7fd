"""Which checkpoints a folder holds, by the names of their files; reading them needs no torch."""

import os
import re
from pathlib import Path

# Of a folder of shards.
SUFFIX = ".shards"


def entries(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, sound or not, oldest first.

    Raises OSError if the folder exists but cannot be read.
    """
    return [path for path in listed(folder) if path.suffix in (".safetensors", SUFFIX)]


def listed(folder: Path) -> list[Path]:
    """Return all checkpoint files. Path.glob would treat an unreadable folder as empty."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return [folder / name for name in sorted(names) if re.fullmatch(r"step-\d+\.(json|safetensors|shards)", name)]


def finished(folder: Path) -> list[Path]:
    """Return the checkpoints whose writing was completed, oldest first, without checking that they are sound."""
    return [path for path in entries(folder) if exists(voucher_of(path))]


def exists(path: Path) -> bool:
    """Whether a path exists; Path.exists may report one that cannot be examined as absent."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def voucher_of(path: Path) -> Path:
    """Return the JSON file that is written last, and vouches for a checkpoint."""
    return path.with_suffix(".json")


def step_of(path: Path) -> int:
    """Return the step after which a checkpoint was saved."""
    match = re.fullmatch(r"step-(\d+)", path.stem)
    assert match is not None
    return int(match[1])
