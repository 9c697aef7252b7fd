"""Checkpoints: one safetensors file, or a folder of shards, and a small JSON beside it that vouches for it.

The JSON is written last and holds a SHA-256 of every file: a checkpoint without it, or that differs from
it, does not count, and the one before is used. Either form resumes with any number of processes.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from vistok.engine.distributed import ALONE, World
from vistok.engine.shards import SUFFIX, is_sharded, place, read_shards, write_shards
from vistok.files import sha256_of, write_atomic, write_json

SCHEMA = 1


def save_checkpoint(
    folder: Path, step: int, state: dict[str, Any], keep: int, milestones: Collection[int] = (), world: World = ALONE
) -> Path:
    """Write the state after `step` steps; delete all but the `keep` newest checkpoints and the milestones.

    All processes take part; the main one writes, or each its own shards where tensors are sharded.
    """
    shards = any(is_sharded(tensor) for _, tensor in _tensors_of(state, ""))
    path = folder / f"step-{step:08d}{SUFFIX if shards else '.safetensors'}"
    tensors: dict[str, Tensor] = {}
    voucher = {"schema_version": SCHEMA, "step": step, "architecture": architecture(named_tensors(state))}
    if world.main:
        for other in entries(folder):
            # Left by a run that was passed over, or in the other form: it must not push out this one.
            if _step_of(other) > step or (_step_of(other) == step and other != path):
                _remove(other)
    if shards:
        voucher["state"] = _pack(state, "", tensors, scalars=True)
        write_shards(path, tensors, world)
    elif world.main:
        plain = _pack(state, "", tensors)
        write_atomic(path, save(tensors, metadata={"state": json.dumps(plain)}))
    if world.main:
        write_json(_voucher(path), {**voucher, "sha256": _checksums(path)})
        for old in entries(folder)[:-keep]:
            if _step_of(old) not in milestones:
                _remove(old)
    world.wait()
    return path


def entries(folder: Path) -> list[Path]:
    """Return the checkpoints of a folder, sound or not, oldest first."""
    return sorted(path for path in folder.glob("step-*") if path.suffix in (".safetensors", SUFFIX))


def newest(folder: Path) -> Path | None:
    """Return the newest checkpoint, sound or not."""
    return entries(folder)[-1] if entries(folder) else None


def _remove(path: Path) -> None:
    _voucher(path).unlink(missing_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _checksums(path: Path) -> str | dict[str, str]:
    """Return the SHA-256 of a file, or of every file of a folder."""
    return {file.name: sha256_of(file) for file in sorted(path.iterdir())} if path.is_dir() else sha256_of(path)


def copy_checkpoint(source: Path, step: int, target: Path) -> bool:
    """Copy one checkpoint to another run's folder, its voucher last; False where there is none that is sound."""
    path = source / f"step-{step:08d}.safetensors"
    if _problem(path, None) is not None:
        return False
    for file in (path, _voucher(path)):
        write_atomic(target / file.name, file.read_bytes())
    return True


def architecture(tensors: Mapping[str, Tensor]) -> str:
    """Return a digest of the names, shapes and types of a state's weights (optimizers' moments apart)."""
    shapes = sorted(f"{name} {tuple(t.shape)} {t.dtype}" for name, t in tensors.items() if _is_weight(name))
    return hashlib.sha256("\n".join(shapes).encode()).hexdigest()


def _is_weight(name: str) -> bool:
    return "/optimizer/" not in name


def load_latest(
    folder: Path, own: Mapping[str, Tensor] | None = None
) -> tuple[tuple[int, dict[str, Any]] | None, list[str]]:
    """Return (step, state) of the newest sound checkpoint, or None, and the warnings of `find_latest`."""
    path, warnings = find_latest(folder, own)
    return (None if path is None else load_checkpoint(path)), warnings


def find_latest(folder: Path, own: Mapping[str, Tensor] | None = None) -> tuple[Path | None, list[str]]:
    """Return the newest sound checkpoint, or None, and warnings.

    Damaged ones, and those of another architecture than a state's tensors (`named_tensors`), are passed over, each
    with a warning that says why.
    """
    warnings: list[str] = []
    lone = {_voucher(path).stem for path in folder.glob("step-*.json")} - {path.stem for path in entries(folder)}
    found = [*entries(folder), *(folder / f"{name}.safetensors" for name in lone)]
    for path in sorted(found, key=_step_of, reverse=True):
        problem = _problem(path, own)
        if not problem:
            return path, warnings
        warnings.append(f"checkpoint {path.name} {problem} and is passed over")
    if warnings:
        warnings.append("no sound checkpoint is left: the run starts anew")
    return None, warnings


def load_checkpoint(path: Path, layout: Mapping[str, Tensor] | None = None) -> tuple[int, dict[str, Any]]:
    """Return (step, state) of a checkpoint that `find_latest` found.

    `layout` names tensors as `named_tensors` does: each is then sharded as its namesake is. Where shards are read all
    processes take part.
    """
    layout = layout or {}
    if path.is_dir():
        plain = json.loads(_voucher(path).read_text())["state"]
        return _step_of(path), _unpack(plain, read_shards(path, layout))
    with safe_open(str(path), framework="pt") as file:
        plain = json.loads(file.metadata()["state"])
        names = list(file.keys())
        tensors = {name: place(file.get_tensor(name), layout.get(name)) for name in names}
    return _step_of(path), _unpack(plain, tensors)


def named_tensors(state: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a state by the names that they have in a checkpoint."""
    return dict(_tensors_of(state, ""))


def _problem(path: Path, own: Mapping[str, Tensor] | None) -> str | None:
    if not path.exists():
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
        if voucher.get("sha256") != _checksums(path):
            return _difference(path, voucher["sha256"])
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if own is not None and voucher.get("architecture") != architecture(own):
        return f"is of another architecture ({_architecture_difference(path, own)})"
    return None


def _architecture_difference(path: Path, own: Mapping[str, Tensor]) -> str:
    """Name a weight that only one side has, or whose shape differs."""
    saved: dict[str, tuple[int, ...]] = {}
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        with safe_open(str(file), framework="pt") as opened:
            saved |= {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118 (not a dict)
    weights = [{name for name in names if _is_weight(name)} for names in (saved, own)]
    for name in sorted(weights[0] ^ weights[1]):
        return f"{name} is only in {'it' if name in saved else 'this run'}"
    for name in sorted(weights[0]):
        if not path.is_dir() and saved[name] != tuple(own[name].shape):
            return f"{name} is {saved[name]} in it and {tuple(own[name].shape)} in this run"
    return "shapes or number types differ"


def _difference(path: Path, expected: Any) -> str:
    if path.is_dir() and isinstance(expected, dict):
        missing = sorted(expected.keys() - {file.name for file in path.iterdir()})
        if missing:
            return f"lacks {len(missing)} of {len(expected)} shards ({missing[0]})"
    return "is damaged (checksum differs)"


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


def _pack(value: Any, name: str, tensors: dict[str, Tensor], scalars: bool = False) -> Any:
    """Return JSON values in which tensors are replaced by their names; fills `tensors`.

    With `scalars` single numbers stay out of it, as shards want it.
    """
    if isinstance(value, Tensor):
        if scalars and value.dim() == 0:
            return {"scalar": value.item(), "dtype": str(value.dtype).removeprefix("torch.")}
        tensors[name] = value.detach() if scalars else value.detach().cpu().contiguous().clone()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"items": [[key, _pack(item, f"{name}/{key}", tensors, scalars)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_pack(item, f"{name}/{i}", tensors, scalars) for i, item in enumerate(value)]}
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
    if kind == "scalar":
        return torch.tensor(content, dtype=getattr(torch, packed["dtype"]))
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
