"""What produced a result (code, versions and hardware), and how two sittings of a run differ in it."""

import hashlib
import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parent.parent


def provenance() -> dict[str, Any]:
    """Return code, versions and hardware, as far as known; `code` is a digest of vistok's source.

    Threads and devices are those of torch: where it is not loaded, nothing was computed with it.
    """
    torch = sys.modules.get("torch")
    packages = ("vistok", "torch", "torchvision", "torchmetrics", "numpy", "scipy", "safetensors")
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "code": code_digest(),
        "python": platform.python_version(),
        **{name: _version(name) for name in packages},
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads() if torch else None,
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch else [],
    }


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return warnings for a run resumed with different code, versions or hardware than it began with."""
    changed = [name for name in ("torch", "numpy", "cpu", "threads", "processes") if before.get(name) != now[name]]
    return [
        *([_code_changed(before, now)] if _other_code(before, now) else []),
        *(
            f"{name} was {before.get(name)!r} when the run began and is {now[name]!r} now: the result may differ in the "
            "last digits"
            for name in changed
        ),
    ]


def _other_code(before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether the code differs, or may differ where a record of an earlier version has no digest of it."""
    if "code" in before:
        return bool(before["code"] != now["code"])
    names = ("vistok", "commit")
    dirty = bool(before.get("uncommitted_changes")) or bool(now["uncommitted_changes"])
    return dirty or any(before.get(name) != now[name] for name in names)


def _code_changed(before: dict[str, Any], now: dict[str, Any]) -> str:
    return f"the run began with vistok {_code_name(before)} and resumes with {_code_name(now)}: the result may differ"


def _code_name(made: dict[str, Any]) -> str:
    """Name code by its commit, an installed package by its version, and uncommitted changes by their digest."""
    name = str(made.get("commit") or made.get("vistok"))[:12]
    if not made.get("uncommitted_changes"):
        return name
    return f"{name} and uncommitted changes" + (f" ({made['code'][:8]})" if made.get("code") else "")


@cache
def code_digest() -> str:
    """Return a digest of vistok's source, which covers installed packages and uncommitted changes, unlike git."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in (".py", ".cpp"):
            digest.update(f"{path.relative_to(PACKAGE)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """Ask git about the checkout that contains this code; None if there is none."""
    here = Path(__file__)
    try:
        for command in (["ls-files", "--error-unmatch", here.name], arguments):
            done = subprocess.run(
                ["git", *command], cwd=here.parent, capture_output=True, text=True, timeout=10, check=False
            )
            if done.returncode:  # an environment inside someone else's checkout, whose commits are not ours
                return None
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def cpu_name() -> str:
    """Return the processor's model name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
