"""Checkpoints: one safetensors file, or a folder of shards, with a small JSON (the voucher) beside it.

The voucher is written last and holds the SHA-256 of every file: a checkpoint without a voucher, or that does not match
it, does not count, and the one before is used. Either form can be resumed with any number of processes.

Only wrong contents count as damage. If the machine cannot read a file, that says nothing about the checkpoint, and the
run stops. Checkpoints that are skipped are moved aside, not deleted.
"""

import hashlib
import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from vistok.engine.checkpoint_files import SUFFIX, entries, exists, listed, step_of, voucher_of
from vistok.engine.distributed import ALONE, World
from vistok.engine.shards import is_sharded, place, read_shards, write_shards
from vistok.errors import UserError
from vistok.files import replace_synced, sha256_of, write_atomic, write_json

SCHEMA = 1
SET_ASIDE = "set-aside"


def save_checkpoint(
    folder: Path, step: int, state: dict[str, Any], keep: int, milestones: Collection[int] = (), world: World = ALONE
) -> Path:
    """Write the state after `step` steps; delete all but the `keep` newest finished checkpoints and the milestones.

    All processes take part: the main one writes, or each its own shards if tensors are sharded. Checkpoints of later
    steps, left over when a run resumed from an earlier one, are set aside. `folder` is created but its parent is not,
    so that a run directory that was moved away does not reappear.
    """
    shards = any(is_sharded(tensor) for _, tensor in _tensors_of(state, ""))
    path = folder / f"step-{step:08d}{SUFFIX if shards else '.safetensors'}"
    tensors: dict[str, Tensor] = {}
    voucher = {"schema_version": SCHEMA, "step": step, "architecture": architecture(named_tensors(state))}
    if shards:
        voucher["state"] = _pack(state, "", tensors, scalars=True)
    elif world.main:
        content = save(tensors, metadata={"state": json.dumps(_pack(state, "", tensors))})
    if world.main:
        folder.mkdir(exist_ok=True)
        for other in entries(folder):
            # The same step in the other form would share this checkpoint's voucher.
            if step_of(other) > step or (step_of(other) == step and other != path):
                set_aside(other)
    if shards:
        write_shards(path, tensors, world)
    elif world.main:
        write_atomic(path, content, make_folder=False)
    if world.main:
        write_json(voucher_of(path), _sealed({**voucher, "sha256": _checksums(path)}), make_folder=False)
        _prune(folder, step, keep, milestones)
    world.wait()
    return path


def _prune(folder: Path, step: int, keep: int, milestones: Collection[int]) -> None:
    """Delete checkpoints that are no longer needed after `step`; those without a voucher do not count as kept."""
    older = [path for path in entries(folder) if step_of(path) <= step]
    kept = [path for path in older if exists(voucher_of(path))][-keep:]
    for path in older:
        if path not in kept and step_of(path) not in milestones:
            _remove(path)


def drop_checkpoints(folder: Path, milestones: Collection[int] = ()) -> None:
    """Delete the checkpoints of a run that has ended, but for the milestones: nothing resumes from them any more."""
    for path in entries(folder):
        if step_of(path) not in milestones:
            _remove(path)


def set_aside(path: Path, name: str = "") -> Path:
    """Move a checkpoint and its voucher out of the run's way; return the folder they are in now.

    The folder is `set-aside-1`, or the next number if that already holds a checkpoint of the same name. With `name`, it
    is the folder of that name, and a checkpoint of the same name there is replaced.
    """
    number = 1
    files = [file for file in (path, voucher_of(path)) if exists(file)]
    while not name and any(exists(_aside(path, number) / file.name) for file in files):
        number += 1
    place = path.parent / name if name else _aside(path, number)
    place.mkdir(exist_ok=True)
    # The voucher last: without it the checkpoint would count as unfinished and eventually be deleted.
    for file in files:
        if (place / file.name).is_dir():
            shutil.rmtree(place / file.name)
        replace_synced(file, place / file.name)
    return place


def _aside(path: Path, number: int) -> Path:
    return path.parent / f"{SET_ASIDE}-{number}"


def _remove(path: Path) -> None:
    voucher_of(path).unlink(missing_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _checksums(path: Path) -> str | dict[str, str]:
    """Return the SHA-256 of a file, or of every file in a folder."""
    return {file.name: sha256_of(file) for file in sorted(path.iterdir())} if path.is_dir() else sha256_of(path)


def _sealed(voucher: dict[str, Any]) -> dict[str, Any]:
    """Return a voucher with its own checksum, as it holds part of the state of a sharded checkpoint."""
    return {**voucher, "checksum": _seal(voucher)}


def _seal(voucher: dict[str, Any]) -> str:
    content = {name: value for name, value in voucher.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def copy_checkpoint(source: Path, step: int, target: Path) -> bool:
    """Copy one checkpoint to another run's folder, its voucher last; return False if it is missing or damaged."""
    path = source / f"step-{step:08d}.safetensors"
    if problem_of(path) is not None:
        return False
    for file in (path, voucher_of(path)):
        write_atomic(target / file.name, file.read_bytes())
    return True


def architecture(tensors: Mapping[str, Tensor]) -> str:
    """Return a digest of the names, shapes and dtypes of a state's weights (without the optimizers' moments)."""
    shapes = sorted(f"{name} {tuple(t.shape)} {t.dtype}" for name, t in tensors.items() if is_weight(name))
    return hashlib.sha256("\n".join(shapes).encode()).hexdigest()


def is_weight(name: str) -> bool:
    """Whether a tensor of a state is a weight or an EMA weight, not part of an optimizer."""
    return "/optimizer/" not in name


def load_latest(
    folder: Path, own: Mapping[str, Tensor] | None = None
) -> tuple[tuple[int, dict[str, Any]] | None, list[str]]:
    """Return (step, state) of the newest sound checkpoint, or None, and what is wrong with the later ones."""
    path, passed = find_latest(folder, own)
    return (None if path is None else load_checkpoint(path)), [f"{other.name} {why}" for other, why in passed]


def find_latest(folder: Path, own: Mapping[str, Tensor] | None = None) -> tuple[Path | None, list[tuple[Path, str]]]:
    """Return the newest sound checkpoint, or None, and the later ones, each with what is wrong with it.

    Those are damaged, unfinished, or of a different architecture from `own`, a state's tensors (`named_tensors`). Raises
    UserError if the machine cannot read one, as that says nothing about the file.
    """
    passed: list[tuple[Path, str]] = []
    files = listed(folder)
    saved = {path for path in files if path.suffix != ".json"}
    orphans = {path.stem for path in files} - {path.stem for path in saved}
    for path in sorted(saved | {folder / f"{name}.safetensors" for name in orphans}, key=step_of, reverse=True):
        problem = problem_of(path, own)
        if problem is None:
            return path, passed
        passed.append((path, problem))
    return None, passed


def find_and_set_aside(folder: Path, own: Mapping[str, Tensor]) -> tuple[Path | None, list[str]]:
    """Return the newest sound checkpoint, or None, and warnings; set aside the ones that are skipped.

    The remains of a killed save stay until the run has passed that step.
    """
    path, passed = find_latest(folder, own)
    warnings = []
    for other, problem in passed:
        where = "" if problem == UNFINISHED else f"; it is kept in {set_aside(other)}"
        warnings.append(f"checkpoint {other.name} {problem} and is skipped{where}")
    if path is None and passed:
        warnings.append("no sound checkpoint is left: the run starts from the beginning")
    return path, warnings


def load_checkpoint(path: Path, layout: Mapping[str, Tensor] | None = None) -> tuple[int, dict[str, Any]]:
    """Return (step, state) of a checkpoint that `find_latest` found.

    `layout` names tensors as `named_tensors` does; each loaded tensor is sharded like the one of the same name there. All
    processes take part in reading shards.
    """
    layout = layout or {}
    if path.is_dir():
        plain = json.loads(voucher_of(path).read_text())["state"]
        return step_of(path), _unpack(plain, read_shards(path, layout))
    with safe_open(str(path), framework="pt") as file:
        plain = json.loads(file.metadata()["state"])
        names = list(file.keys())
        tensors = {name: place(file.get_tensor(name), layout.get(name)) for name in names}
    return step_of(path), _unpack(plain, tensors)


def named_tensors(state: dict[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a state by their names in a checkpoint."""
    return dict(_tensors_of(state, ""))


UNFINISHED = "was not finished"


def problem_of(path: Path, own: Mapping[str, Tensor] | None = None) -> str | None:
    """Return what is wrong with a checkpoint, or None; raises UserError if the machine cannot read it."""
    try:
        return _problem(path, own)
    except OSError as error:
        raise UserError(
            f"checkpoint {path}: the machine could not read it ({error.strerror or error}), which says nothing about the "
            "file. Fix that (disk, mount or permissions) and repeat the command; nothing was changed"
        ) from None


def _problem(path: Path, current: Mapping[str, Tensor] | None) -> str | None:
    if not exists(path):
        return "is gone (only its JSON is left)"
    try:
        content = voucher_of(path).read_bytes()
    except FileNotFoundError:
        return UNFINISHED
    try:
        voucher = json.loads(content)
    except (ValueError, RecursionError):
        voucher = None
    if not isinstance(voucher, dict):
        return "has an unreadable JSON file"
    if voucher.get("schema_version") != SCHEMA:
        return f"has schema version {voucher.get('schema_version')}, this vistok reads {SCHEMA}"
    if voucher.get("checksum", _seal(voucher)) != _seal(voucher):  # older ones have none
        return "has a damaged JSON file (checksum differs)"
    if voucher.get("sha256") != _checksums(path):
        return _difference(path, voucher.get("sha256"))
    if current is not None and voucher.get("architecture") != architecture(current):
        return f"has a different architecture ({_architecture_difference(path, current)})"
    return None


def _architecture_difference(path: Path, current: Mapping[str, Tensor]) -> str:
    """Name a weight that only one side has, or whose shapes differ."""
    saved: dict[str, tuple[int, ...]] = {}
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        with safe_open(str(file), framework="pt") as opened:
            saved |= {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118 (not a dict)
    weights = [{name for name in names if is_weight(name)} for names in (saved, current)]
    for name in sorted(weights[0] ^ weights[1]):
        return f"{name} is only in {'the checkpoint' if name in saved else 'this run'}"
    for name in sorted(weights[0]):
        if not path.is_dir() and saved[name] != tuple(current[name].shape):
            return f"{name} is {saved[name]} in the checkpoint and {tuple(current[name].shape)} in this run"
    return "shapes or dtypes differ"


def _difference(path: Path, expected: Any) -> str:
    if path.is_dir() and isinstance(expected, dict):
        missing = sorted(expected.keys() - {file.name for file in path.iterdir()})
        if missing:
            return f"is missing {len(missing)} of {len(expected)} shards ({missing[0]})"
    return "is damaged (checksum differs)"


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

    With `scalars`, single numbers stay in the JSON, as shards require.
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
    raise TypeError(f"{name}: a checkpoint holds tensors, numbers, strings, lists and dicts, found {type(value)}")


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
