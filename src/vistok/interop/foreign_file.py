"""Read other projects' weights: safetensors, or torch's pickled files, without running anything they name."""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from vistok.errors import UserError, damage_is_a_mistake
from vistok.pickled_file import Inert, read_pickled
from vistok.torch_files import first_bytes, is_pickled, refuse_program

# Keys under which weights may be nested further.
_DEEPER = ("model", "module", "state_dict")
# Wrappers (multi-device, compiler, activation checkpointing) insert these words anywhere in a name.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
_NO_CHECKPOINTS = {
    b"version https://": "only a Git LFS pointer, not the file itself: fetch it with git lfs pull",
    b"<": "a web page: the download failed, or required a login",
}


def read_foreign(path: Path) -> dict[str, Any]:
    """Return the contents of a .safetensors, .pt, .pth, .bin or .ckpt file, on the CPU; the format is detected.

    Raises UserError for a file that is missing, damaged or none of these, and for one that contains a program.
    """
    if path.is_dir():
        raise UserError(
            f"checkpoint {path}: this is a folder; give the file in it (vistok import diffusers takes a folder)"
        )
    if not path.is_file():
        raise UserError(f"checkpoint {path}: not found; check the path")
    refuse_program(path, "checkpoint")
    what, advice = f"checkpoint {path}", "download it again, or save its weights as safetensors and give that file"
    with damage_is_a_mistake(what, advice):
        contents = _read(path)
    if isinstance(contents, Inert):
        raise UserError(
            f"{what}: a whole pickled model ({contents.named}), which cannot be built without running its code; if you trust "
            "it, load it yourself, save model.state_dict() with torch.save, and give that file"
        )
    if not isinstance(contents, dict):
        raise UserError(
            f"{what}: holds a {type(contents).__name__}, not a dictionary of weights; save model.state_dict() and give that"
        )
    return contents


def _read(path: Path) -> Any:
    head = first_bytes(path)
    for beginning, words in _NO_CHECKPOINTS.items():
        if head.lstrip().startswith(beginning):
            raise UserError(f"checkpoint {path}: {words}")
    if is_pickled(path):
        return read_pickled(path)
    if head[8:9] != b"{":
        raise ValueError("it starts neither like a torch.save file nor like safetensors")
    with safe_open(str(path), framework="pt") as file:
        if "vistok" in (file.metadata() or {}):
            raise UserError(
                f"checkpoint {path}: this is a vistok file, which needs no import; pass it to any command as it is"
            )
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)


def weights_of(path: Path, found: dict[str, Any], parts: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the weights in a file's contents: under the first of `parts` that has any, else at the top level.

    Words that wrappers added to the names are removed. Raises UserError naming what the file holds instead.
    """
    states = (_state(found.get(part)) for part in parts)
    state = next((state for state in states if state), None) or _state(found)
    if state:
        return _unwrapped(path, state)
    models = [str(part) for part, value in found.items() if isinstance(value, Inert) and part in (*parts, *_DEEPER)]
    if models:
        raise UserError(
            f"checkpoint {path}: its part {models[0]!r} is a whole pickled model, which cannot be built without running its "
            "code; if you trust it, load it yourself, save model.state_dict() with torch.save, and give that file"
        )
    raise UserError(
        f"checkpoint {path}: no weights under {', '.join(parts)} or at the top level; it holds: "
        f"{', '.join(map(str, list(found)[:8])) or 'nothing'}"
    )


def _state(value: Any, depth: int = 0) -> dict[str, Tensor]:
    """Return the tensors of a dictionary or of one nested in it; empty where there are only single numbers."""
    if not isinstance(value, dict) or isinstance(value, Inert) or depth > 3:
        return {}
    tensors = {str(name): tensor.detach() for name, tensor in value.items() if isinstance(tensor, Tensor)}
    if any(tensor.ndim for tensor in tensors.values()):
        return tensors
    return next((state for part in _DEEPER if (state := _state(value.get(part), depth + 1))), {})


def _unwrapped(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for name, value in state.items():
        plain = ".".join(word for word in name.split(".") if word not in _WRAPPERS)
        if plain in weights:
            raise UserError(f"checkpoint {path}: weight {plain!r} occurs twice, with and without a wrapper's prefix")
        weights[plain] = value
    return weights


def as_float(name: str, value: Tensor) -> Tensor:
    """Return a weight in float32; raises UserError where it is quantized or holds NaN or infinity."""
    if not value.is_floating_point():
        raise UserError(
            f"weight {name!r} holds {str(value.dtype).removeprefix('torch.')}; give a checkpoint with floating-point weights"
        )
    value = value.float()
    if not value.is_meta and not bool(torch.isfinite(value).all()):
        raise UserError(f"weight {name!r} holds values that are not finite (NaN or infinity); give another checkpoint")
    return value
