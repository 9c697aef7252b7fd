"""Checkpoints: one safetensors file and a small JSON beside it that vouches for it.

The JSON is written last and holds the file's SHA-256: a checkpoint without it, or that differs from
it, does not count, and the one before is used.
"""

import hashlib
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from vistok.files import sha256_of, write_atomic, write_json

SCHEMA = 1


def save_checkpoint(
    folder: Path, step: int, state: dict[str, Any], keep: int, milestones: Collection[int] = ()
) -> Path:
    """Write the state after `step` steps; delete all but the `keep` newest checkpoints and the milestones."""
    tensors: dict[str, Tensor] = {}
    plain = _pack(state, "", tensors)
    path = folder / f"step-{step:08d}.safetensors"
    for later in folder.glob("step-*.safetensors"):
        if _step_of(later) > step:  # left by a run that was passed over: it must not push out this one
            _voucher(later).unlink(missing_ok=True)
            later.unlink()
    write_atomic(path, save(tensors, metadata={"state": json.dumps(plain)}))
    voucher = {"schema_version": SCHEMA, "step": step, "sha256": sha256_of(path), "architecture": architecture(state)}
    write_json(_voucher(path), voucher)
    for old in sorted(folder.glob("step-*.safetensors"))[:-keep]:
        if _step_of(old) not in milestones:
            _voucher(old).unlink(missing_ok=True)
            old.unlink()
    return path


def copy_checkpoint(source: Path, step: int, target: Path) -> bool:
    """Copy one checkpoint to another run's folder, its voucher last; False where there is none that is sound."""
    path = source / f"step-{step:08d}.safetensors"
    if _problem(path, None) is not None:
        return False
    for file in (path, _voucher(path)):
        write_atomic(target / file.name, file.read_bytes())
    return True


def architecture(state: dict[str, Any]) -> str:
    """Return a digest of the names, shapes and types of all weights in a state (optimizers' moments apart)."""
    shapes = sorted(
        f"{name} {tuple(tensor.shape)} {tensor.dtype}"
        for name, tensor in _tensors_of(state, "")
        if "/optimizer/" not in name
    )
    return hashlib.sha256("\n".join(shapes).encode()).hexdigest()


def load_latest(folder: Path, expected: str | None = None) -> tuple[tuple[int, dict[str, Any]] | None, list[str]]:
    """Return (step, state) of the newest sound checkpoint, or None, and warnings.

    Damaged ones, and those of another architecture than `expected`, are passed over, each with a warning
    that says why.
    """
    warnings: list[str] = []
    names = {path.stem for path in folder.glob("step-*") if path.suffix in (".safetensors", ".json")}
    for path in (folder / f"{name}.safetensors" for name in sorted(names, reverse=True)):
        problem = _problem(path, expected)
        if problem:
            warnings.append(f"checkpoint {path.name} {problem} and is passed over")
            continue
        with safe_open(str(path), framework="pt") as file:
            plain = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return (_step_of(path), _unpack(plain, tensors)), warnings
    if warnings:
        warnings.append("no sound checkpoint is left: the run starts anew")
    return None, warnings


def _problem(path: Path, expected: str | None) -> str | None:
    if not path.is_file():
        return "is gone (only the JSON beside it is left)"
    try:
        voucher = json.loads(_voucher(path).read_text())
    except FileNotFoundError:
        return "was not finished"
    except (OSError, ValueError):
        voucher = None
    if not isinstance(voucher, dict):
        return "has an unreadable JSON beside it"
    if voucher.get("schema_version") != SCHEMA:
        return f"has schema version {voucher.get('schema_version')}, this vistok reads {SCHEMA}"
    try:
        if voucher.get("sha256") != sha256_of(path):
            return "is damaged (checksum differs)"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if expected is not None and voucher.get("architecture") != expected:
        return "is of another architecture"
    return None


def _voucher(path: Path) -> Path:
    return path.with_suffix(".json")


def _step_of(path: Path) -> int:
    match = re.fullmatch(r"step-(\d+)", path.stem)
    assert match is not None
    return int(match[1])


def _tensors_of(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _tensors_of(item, f"{name}/{key}")
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _tensors_of(item, f"{name}/{i}")


def _pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return JSON values in which tensors are replaced by their names; fills `tensors`."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"items": [[key, _pack(item, f"{name}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_pack(item, f"{name}/{i}", tensors) for i, item in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise TypeError(f"{name}: a checkpoint holds tensors, numbers, texts, lists and dicts, found {type(value)}")


def _unpack(packed: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    (kind, content), *_ = packed.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "items":
        return {key: _unpack(item, tensors) for key, item in content}
    if kind == "list":
        return [_unpack(item, tensors) for item in content]
    return content


def to_device(state: Any, device: torch.device) -> Any:
    """Move every tensor of a nested state."""
    if isinstance(state, Tensor):
        return state.to(device)
    if isinstance(state, dict):
        return {key: to_device(item, device) for key, item in state.items()}
    if isinstance(state, list):
        return [to_device(item, device) for item in state]
    return state
