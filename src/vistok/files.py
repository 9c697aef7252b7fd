"""Files that are whole or absent (temporary name, sync, rename), have one writer at a time, and checksums."""

import base64
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from vistok.errors import UserError, damage_is_a_mistake

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PARTIAL = ".partial"
_TEMPORARY = re.compile(rf"\.[0-9a-f]{{12}}{re.escape(PARTIAL)}$")


def write_atomic(path: Path, data: bytes | Iterable[bytes], make_folder: bool = True) -> None:
    """Write bytes, at once or in pieces, to a temporary file, sync it and rename it.

    Raises UserError if the disk is full: the previous file stays, and no partial one is left. `make_folder` as for
    `replacing`.
    """
    with replacing(path, make_folder) as file:
        for piece in (data,) if isinstance(data, bytes) else data:
            file.write(piece)


@contextmanager
def replacing(path: Path, make_folder: bool = True) -> Iterator[IO[bytes]]:
    """Open a new file that replaces `path`, whole, when the block ends; on an error it is removed.

    Its temporary name is unique: two writers of one path never share a file, and the later one wins. It is locked while
    being written, so that `sweep` can tell it from the leftovers of a killed process. A missing folder is created, or
    raises OSError with `make_folder` off. Raises UserError if the disk is full.
    """
    if make_folder:
        path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial_of(path)
    try:
        # Never through a link or into a file that someone else put there.
        handle = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with open(handle, "wb") as file:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield file
            file.flush()
            os.fsync(handle)
            replace_synced(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise disk_error(path, error) from None
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder that replaces `path`, whole, when the block ends; on an error it is removed.

    `path` must be absent or an empty folder, which is up to the caller; anything else is left alone and OSError is
    raised. Raises UserError if the disk is full.
    """
    with temporary_folder(path) as partial:
        yield partial
        sync(partial)
        replace_synced(partial, path)


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path`, for pieces of it, and remove it when the block ends.

    It is locked like the files of `replacing`. Raises UserError if the disk is full.
    """
    partial = _partial_of(path)
    try:
        partial.mkdir(parents=True)
        handle = os.open(partial, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield partial
        finally:
            os.close(handle)
    except OSError as error:
        raise disk_error(path, error) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _partial_of(path: Path) -> Path:
    return path.with_name(f"{_stem(path.name)}.{secrets.token_hex(6)}{PARTIAL}")


def _stem(name: str) -> str:
    """Return a name, cut to leave room for a temporary suffix: file names have at most 255 bytes."""
    return os.fsdecode(os.fsencode(name)[:200])


def sweep(folder: Path, of: str = "") -> None:
    """Remove the temporary files and folders that killed writers left in a folder; those in use are locked and stay.

    `of`: only those that were to get this name.
    """
    with suppress(OSError):
        for left in folder.glob(f"*{PARTIAL}"):
            # Only names like ours: `tokens.partial` belongs to a cache, which can be resumed.
            if left.name.startswith(f"{_stem(of)}." if of else "") and _TEMPORARY.search(left.name):
                _remove_unlocked(left)


def _remove_unlocked(left: Path) -> None:
    with suppress(OSError):
        handle = os.open(left, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        finally:
            os.close(handle)


@contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Let one process at a time make a file or folder; the others wait, then check again. The lock file is beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f"{path.name}.lock"), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let one process at a time do something, as `only_one` does; where the lock cannot be written, each does it by itself."""
    with ExitStack() as stack:
        with suppress(OSError):
            stack.enter_context(only_one(path))
        yield


def lock_place(path: Path) -> Path:
    """Return where to lock a path without leaving anything beside it: in the user's cache folder."""
    name = hashlib.sha256(str(path.resolve()).encode(errors="surrogateescape")).hexdigest()[:24]
    return user_cache() / "locks" / name


@contextmanager
def owned(path: Path) -> Iterator[None]:
    """Own a command's output while the block runs; raises UserError if another process is writing it.

    The lock is in the user's cache folder, so that nothing is left beside the output; if that folder is not writable
    there is no lock.
    """
    place = lock_place(path).with_suffix(".lock")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:
        yield
        return
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"{path}: another process is writing it; wait for it or stop it, then repeat, or choose another path"
            ) from None
        yield
    finally:
        os.close(lock)


def is_locked(lock: Path) -> bool:
    """Whether a process holds a lock file; a shared lock is taken for an instant, which no other reader minds."""
    try:
        handle = os.open(lock, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def disk_error(path: Path, error: OSError) -> UserError | OSError:
    """Return a UserError if the disk is full, else the error itself, made to name the file."""
    if error.errno not in FULL:
        return named_error(path, error)
    free = shutil.disk_usage(path.parent).free
    return UserError(
        f"{path}: cannot be written: the disk is full or its quota is used up ({free / 2**20:.1f} MiB free). What was "
        "there before is intact; free some space and repeat the command"
    )


def named_error(path: Path, error: OSError) -> OSError:
    """Return an OSError that names its file: those from reading and writing open files do not."""
    if error.filename is not None or error.errno is None:
        return error
    return OSError(error.errno, error.strerror, str(path))


def replace_synced(partial: Path, path: Path) -> None:
    """Rename, then sync the folder, so that the new name survives a power cut."""
    os.replace(partial, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: Any, make_folder: bool = True) -> None:
    """Write indented JSON atomically; NaN raises ValueError. `make_folder` as for `replacing`."""
    write_atomic(path, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode(), make_folder)


def read_bytes(path: Path) -> bytes:
    """Return a file's contents; an OSError names the file."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise named_error(path, error) from None


def read_json(path: Path, what: str, advice: str) -> dict[str, Any]:
    """Return the JSON object in a file; raises UserError, "`what`: damaged ...; `advice`", for anything else.

    A missing or unreadable file raises an OSError that names it.
    """
    data = read_bytes(path)
    with damage_is_a_mistake(what, advice):
        content = json.loads(data)
        if not isinstance(content, dict):
            raise ValueError(f"expected a JSON object, found {type(content).__name__}")
        return content


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's contents."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise named_error(path, error) from None


def stamp_of(path: str | Path) -> tuple[int, int]:
    """Return a file's size and last change (ns), by which a changed one is known. Raises OSError if it cannot be examined.

    Programs that copy set a file's mtime as they like, so that another file of this size may have it, but not its ctime.
    """
    status = os.stat(path)
    return status.st_size, max(status.st_mtime_ns, status.st_ctime_ns)


def whole_path(path: str) -> str:
    """Return a path that means the same from elsewhere: absolute, if something is there; an address or a pattern stays as it is."""
    return os.path.abspath(path) if os.path.exists(path) else path


def user_cache() -> Path:
    """Return the folder for files that can be made again: `$XDG_CACHE_HOME/vistok`, else `~/.cache/vistok`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vistok"


def data_uri(png: bytes) -> str:
    """Return a PNG as a URI for a self-contained page."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
