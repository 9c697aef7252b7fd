"""C++ files compiled on the user's machine when first needed.

Where that is impossible (no compiler, no OpenMP, not Linux), there is no library, and torch does the work. A library
is kept in the user's cache under a name derived from source, compiler and CPU, and shares torch's OpenMP threads. Its
function `wrong` returns 0 if it computes what it should; that is tried out before the library is kept. Loading a library
runs code: one that another user could have written, or that has changed since it was tried out, is not loaded but
rebuilt.
"""

import ctypes
import hashlib
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from vistok.errors import UserError
from vistok.files import only_one, replace_synced, sha256_of, sync, user_cache, write_atomic

FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-fPIC", "-shared")
# Run in a separate process: a library that does not suit the CPU or torch's OpenMP would crash the whole program. It is given
# the OpenMP of this process, since loading all of torch takes seconds.
TRIAL = "import ctypes, sys; sys.exit([ctypes.CDLL(file, ctypes.RTLD_GLOBAL) for file in sys.argv[1:]][-1].wrong())"
OPENMP = re.compile(r"/lib[gi]?omp[^/]*$")


@cache
def compiled_library(source: Path, defines: tuple[str, ...] = ()) -> ctypes.CDLL | None:
    """Return the library built from a C++ file, compiling and trying it out if necessary; None if that fails.

    `CXX` may name a compiler; `CXX=false` switches all such libraries off.
    """
    if sys.platform != "linux":  # elsewhere, compilers bring an OpenMP other than torch's
        return None
    try:
        return _load(source, defines, shlex.split(os.environ.get("CXX", "")) or [shutil.which("c++") or "g++"])
    except (OSError, RuntimeError, ValueError, subprocess.SubprocessError, UserError):
        return None


def _load(source: Path, defines: tuple[str, ...], compiler: list[str]) -> ctypes.CDLL:
    """Return the library from the user's cache, rebuilding it if it is missing or has changed.

    A folder that others can write to is not used; every process then builds a private copy.
    """
    program = Path(shutil.which(compiler[0]) or compiler[0]).stat()
    command = [*compiler, *FLAGS, *defines, str(source)]
    parts = [*compiler, *FLAGS, *defines, str(program.st_size), str(program.st_mtime_ns), _cpu()]
    texts = [file.read_bytes() for file in (source, *sorted(source.parent.glob("*.h")))]
    digest = hashlib.sha256(b"\0".join(["\0".join(parts).encode(), *texts])).hexdigest()
    folder = user_cache() / "native"
    file = folder / f"{source.stem}-{digest[:16]}.so"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _only_ours(folder):
        with tempfile.TemporaryDirectory() as private:
            return ctypes.CDLL(str(_make(command, Path(private) / file.name)))
    if not _as_written(file):
        with only_one(folder / "making"):  # one process compiles, the others then find the library
            if not _as_written(file):
                _write(command, file)
    return ctypes.CDLL(str(file))


def _write(command: list[str], file: Path) -> None:
    """Build the library and write its checksum, each completely or not at all."""
    with tempfile.TemporaryDirectory(dir=file.parent) as private:
        made = _make(command, Path(private) / file.name)
        checksum = sha256_of(made)
        sync(made)
        replace_synced(made, file)
    write_atomic(_checksum_of(file), checksum.encode())
    _checksum_of(file).chmod(0o600)


def _make(command: list[str], made: Path) -> Path:
    """Compile to a path, and try the result out in a separate process."""
    for words in ([*command, "-o", str(made)], [sys.executable, "-c", TRIAL, *_openmp(), str(made)]):
        subprocess.run(words, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=60)
    made.chmod(0o700)  # whatever the umask: a group-writable file would not be loaded
    return made


def _openmp() -> list[str]:
    """Return the paths of the OpenMP libraries that this process has loaded: torch's, in whatever way it was packaged."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    return sorted({line.split(maxsplit=5)[5] for line in maps if OPENMP.search(line)})


def _as_written(file: Path) -> bool:
    """Whether a library is ours alone and, byte for byte, the one that was tried out: loading it runs code."""
    checksum = _checksum_of(file)
    try:
        return _only_ours(file) and _only_ours(checksum) and checksum.read_text() == sha256_of(file)
    except (OSError, ValueError):
        return False


def _checksum_of(file: Path) -> Path:
    return file.with_suffix(".so.sha256")


def _only_ours(path: Path) -> bool:
    """Whether a file or folder is not a link, and nobody else could have written it."""
    status = path.lstat()
    writable_by_others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return status.st_uid == os.getuid() and not writable_by_others and not stat.S_ISLNK(status.st_mode)


def _cpu() -> str:
    """Return what determines the available CPU instructions, as machines may share a home directory."""
    listing = Path("/proc/cpuinfo").read_text().splitlines()
    lines = {line for line in listing if line.startswith(("flags", "Features", "model"))}
    return "".join(sorted(lines))
