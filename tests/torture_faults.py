"""Counts the file operations of this process below a folder, and at a given one kills it or lets the disk fail."""

import builtins
import errno
import io
import json
import os
import signal
from collections import Counter
from pathlib import Path

# Which operations a fault may strike; a kill comes before them, in the middle of a write, and after a rename.
FAILING = {
    "KILL": ("read", "write", "sync", "rename", "renamed", "delete", "make"),
    "EIO": ("read", "write", "sync", "rename"),
    "ENOSPC": ("write", "sync", "rename", "make"),
}


class Faults:
    """`fault`: (KILL, EIO or ENOSPC, kind of operation, number among those of the kind), or None for none."""

    def __init__(self, folder: Path, report: Path, fault: tuple[str, str, int] | None) -> None:
        self.folder, self.report, self.fault = str(folder), report, fault
        self.counts: Counter[str] = Counter()

    def operation(self, kind: str, path: object, name: str) -> None:
        """Count an operation; strike at the given one."""
        if not self._below(path):
            return
        self.counts[kind] += 1
        if self.fault is not None and self.fault[1:] == (kind, self.counts[kind]):
            where = Path(str(path)).name
            with self.plain_open(self.report, "w") as file:
                file.write(f"{name} {where}")
            if self.fault[0] == "KILL":
                os.kill(os.getpid(), signal.SIGKILL)
            number = getattr(errno, self.fault[0])
            raise OSError(number, os.strerror(number))  # as a write to an open file fails, without its name

    def _below(self, path: object) -> bool:
        return str(path).startswith(self.folder)

    def done(self) -> None:
        """Write down how many operations of each kind there were."""
        with self.plain_open(self.report.with_suffix(".counts"), "w") as file:
            file.write(json.dumps(self.counts))

    def install(self) -> None:
        """Put counting functions in the place of Python's."""
        self.plain_open = builtins.open
        builtins.open = io.open = self._opened
        for name, kind in (("replace", "rename"), ("rename", "rename")):
            setattr(os, name, self._moving(getattr(os, name), kind))
        for name, kind in (("unlink", "delete"), ("remove", "delete"), ("rmdir", "delete"), ("mkdir", "make")):
            setattr(os, name, self._changing(getattr(os, name), kind))
        plain_fsync = os.fsync

        def fsync(handle: int) -> None:
            self.operation("sync", _path_of(handle), "before syncing")
            plain_fsync(handle)

        os.fsync = fsync

    def _opened(self, path, mode="r", *rest, **options):
        named = _path_of(path) if isinstance(path, int) else os.path.abspath(os.fsdecode(path))
        if not self._below(named):
            return self.plain_open(path, mode, *rest, **options)
        if set(mode) & set("wax+"):
            return _Halves(self.plain_open(path, mode, *rest, **options), named, self)
        self.operation("read", named, "before reading")
        return self.plain_open(path, mode, *rest, **options)

    def _moving(self, plain, kind):
        def move(source, target, **options):
            self.operation(kind, os.path.abspath(target), "before renaming")
            plain(source, target, **options)
            self.operation("renamed", os.path.abspath(target), "after renaming")

        return move

    def _changing(self, plain, kind):
        def change(path, *rest, **options):
            folder = _path_of(options["dir_fd"]) if options.get("dir_fd") is not None else os.getcwd()
            words = "before making" if kind == "make" else "before deleting"
            self.operation(kind, os.path.join(folder, os.fsdecode(path)), words)
            return plain(path, *rest, **options)

        return change


def _path_of(handle: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{handle}")
    except OSError:
        return ""


class _Halves:
    """A file whose writes come in two halves."""

    def __init__(self, file, path: str, faults: Faults) -> None:
        self.file, self.path, self.faults = file, path, faults

    def write(self, data):
        data = data if isinstance(data, str) else memoryview(data).cast("B")
        half = len(data) // 2
        self.faults.operation("write", self.path, "before writing")
        self.file.write(data[:half])
        self.file.flush()
        self.faults.operation("write", self.path, "in the middle of writing")
        return half + self.file.write(data[half:])

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __iter__(self):
        return iter(self.file)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()
