"""Read weights that others saved: safetensors, or torch's pickled files without running what they name."""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from vistok.errors import UserError, damage_is_a_mistake
from vistok.interop.pickled_file import Inert, read_pickled
from vistok.torch_files import first_bytes, is_pickled, refuse_program

# Under these, weights lie deeper than where they were looked for.
_DEEPER = ("model", "module", "state_dict")
# Wrappers for many devices, for the compiler and for recomputation put these words anywhere in a name.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
_NO_CHECKPOINTS = {
    b"version https://": "a pointer of Git LFS and not the file itself: fetch it with git lfs pull",
    b"<": "a web page: the download failed, or asked for a login",
}


def read_foreign(path: Path) -> dict[str, Any]:
    """Return what a .safetensors, .pt, .pth, .bin or .ckpt file holds, on the CPU; its contents tell which it is.

    Raises UserError for a file that is missing, damaged or none of these, and for one that holds a program.
    """
    if path.is_dir():
        raise UserError(f"checkpoint {path}: a folder; name the file in it (vistok import diffusers takes a folder)")
    if not path.is_file():
        raise UserError(f"checkpoint {path}: not found")
    refuse_program(path, "checkpoint")
    what, advice = f"checkpoint {path}", "download it again, or save its weights as safetensors and give that file"
    with damage_is_a_mistake(what, advice):
        found = _read(path)
    if isinstance(found, Inert):
        raise UserError(
            f"{what}: a whole pickled model ({found.named}), whose class cannot be built without running code; load it "
            "where you trust it, save model.state_dict() with torch.save, and give that file"
        )
    if not isinstance(found, dict):
        raise UserError(f"{what}: holds a {type(found).__name__}, not a dictionary of weights; save model.state_dict()")
    return found


def _read(path: Path) -> Any:
    head = first_bytes(path)
    for beginning, words in _NO_CHECKPOINTS.items():
        if head.lstrip().startswith(beginning):
            raise UserError(f"checkpoint {path}: {words}")
    if is_pickled(path):
        return read_pickled(path)
    if head[8:9] != b"{":
        raise ValueError("it begins neither like a file of torch.save nor like safetensors")
    with safe_open(str(path), framework="pt") as file:
        if "vistok" in (file.metadata() or {}):
            raise UserError(f"checkpoint {path}: a file of vistok's own, which needs no import; give it as it is")
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)


def weights_of(path: Path, found: dict[str, Any], parts: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the weights among what a file holds: under the first of `parts` that has some, else at its top.

    What wrappers added to the names is taken off. Raises UserError naming what the file has instead.
    """
    states = (_state(found.get(part)) for part in parts)
    state = next((state for state in states if state), None) or _state(found)
    if state:
        return _unwrapped(path, state)
    models = [str(part) for part, value in found.items() if isinstance(value, Inert) and part in (*parts, *_DEEPER)]
    if models:
        raise UserError(
            f"checkpoint {path}: its part {models[0]!r} is a whole pickled model, whose class cannot be built without "
            "running code; load it where you trust it, save model.state_dict() with torch.save, and give that file"
        )
    raise UserError(
        f"checkpoint {path}: no weights found under {', '.join(parts)} or at its top; it holds: "
        f"{', '.join(map(str, list(found)[:8])) or 'nothing'}"
    )


def _state(value: Any, depth: int = 0) -> dict[str, Tensor]:
    """Return the tensors of a dictionary, or of the one inside it; empty where there are none but single numbers."""
    if not isinstance(value, dict) or isinstance(value, Inert) or depth > 3:
        return {}
    tensors = {str(name): tensor.detach() for name, tensor in value.items() if isinstance(tensor, Tensor)}
    if any(tensor.ndim for tensor in tensors.values()):
        return tensors
    return next((state for part in _DEEPER if (state := _state(value.get(part), depth + 1))), {})


def _unwrapped(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        plain = ".".join(word for word in name.split(".") if word not in _WRAPPERS)
        if plain in found:
            raise UserError(f"checkpoint {path}: weight {plain!r} is there twice, with and without a wrapper's words")
        found[plain] = value
    return found


def as_float(name: str, value: Tensor) -> Tensor:
    """Return a weight in float32; raises UserError for one that is quantized, or holds a NaN or an infinity."""
    if not value.is_floating_point():
        raise UserError(
            f"weight {name!r} holds {str(value.dtype).removeprefix('torch.')}: give weights that are not quantized"
        )
    value = value.float()
    if not value.is_meta and not bool(torch.isfinite(value).all()):
        raise UserError(
            f"weight {name!r} holds values that are not finite (NaN or infinity): the checkpoint is of no use"
        )
    return value
