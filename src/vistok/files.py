"""Files that are whole or absent: temporary name, sync, rename; sums of what they hold."""

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vistok.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomic(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write bytes, or pieces of them one by one, to a temporary name, sync, rename.

    Raises UserError where the disk is full; what was there before stays, and nothing half is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            for piece in (data,) if isinstance(data, bytes) else data:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise disk_error(path, error) from None
    replace_synced(partial, path)


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Let one process at a time make a file or folder; the others wait and then look again. The lock lies beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f"{path.name}.lock"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def disk_error(path: Path, error: OSError) -> UserError | OSError:
    """Return a UserError where an error means a full disk, else the error itself."""
    if error.errno not in FULL:
        return error
    free = shutil.disk_usage(path.parent).free
    return UserError(
        f"{path}: cannot be written, the disk is full or its quota is used up ({free / 2**20:.1f} MiB free). What was "
        "there before is whole; make room and repeat the command"
    )


def replace_synced(partial: Path, path: Path) -> None:
    """Rename, and sync the folder, so that the new name outlives a power cut."""
    os.replace(partial, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Bring a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON atomically; NaN is refused."""
    write_atomic(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's contents."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def user_cache() -> Path:
    """Return the folder for what can be made again: `$XDG_CACHE_HOME/vistok`, else `~/.cache/vistok`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vistok"
