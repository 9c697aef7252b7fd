"""What a command left on the disk, without what differs between two equal results."""

import json
from pathlib import Path

import torch
from safetensors import safe_open

from vistok.engine.log import read_rows

# What differs between two equal results: times, and how they were made.
VOLATILE = {"seconds", "header_sha256", "command", "provenance", "sittings", "stages", "made", "created", "directory"}


def contents(folder: Path) -> dict[str, object]:
    """Return what a command left, by path, without times and temporary files."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        skipped = ".partial" in name or path.suffix in (".lock", ".log", ".html", ".seconds") or path.name == "lock"
        if not path.is_file() or skipped or path.name in ("provenance.json", "summary.md"):
            continue
        if "checkpoints/" in name or "logs/" in name:
            continue  # their number depends on when a run was stopped; the weights that are exported do not
        found[name] = _content(path)
    return found


def _content(path: Path) -> object:
    if path.suffix == ".jsonl":
        return [{key: value for key, value in row.items() if key not in VOLATILE} for row in read_rows(path)]
    if path.suffix == ".json":
        return _stable(json.loads(path.read_text()))
    if path.suffix == ".safetensors":
        with safe_open(str(path), framework="pt") as file:
            metadata = {
                key: _stable(json.loads(value)) for key, value in (file.metadata() or {}).items() if value[:1] == "{"
            }
            return {**{name: file.get_tensor(name) for name in file.keys()}, "": metadata}  # noqa: SIM118
    return path.read_bytes()


def _stable(value: object) -> object:
    if isinstance(value, dict):
        return {key: _stable(item) for key, item in value.items() if key not in VOLATILE}
    return [_stable(item) for item in value] if isinstance(value, list) else value


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return a == b
