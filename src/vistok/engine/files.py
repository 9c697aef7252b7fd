"""Writing files so that a crash at any instant leaves the old or the new, whole."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def write_atomic(path: Path, data: bytes) -> None:
    """Write to a temporary name, sync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with open(partial, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    replace_synced(partial, path)


def replace_synced(partial: Path, path: Path) -> None:
    """Rename, and sync the folder, so that the new name outlives a power cut."""
    os.replace(partial, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically; NaN is refused."""
    write_atomic(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's contents."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
