"""Read weights that others saved: safetensors, or torch's pickled files without running what they name.

A pickled file may name any function to be called while it is read. Here only what builds tensors is what it says;
every other name becomes an inert container that swallows its arguments. So a file with a pickled
argparse.Namespace or with Lightning's callbacks can be read, and one with a call to os.system does nothing.
"""

import argparse
import collections
import pickle
import types
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vistok.errors import UserError

_STORAGES = ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Short", "Char", "Byte", "Bool")
# All that a file may call or build: none of these does more than to hold numbers and names.
ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("argparse", "Namespace"): argparse.Namespace,
    ("torch", "Size"): torch.Size,
    ("torch", "device"): torch.device,
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,  # type: ignore[attr-defined]
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    **{("torch", f"{name}Storage"): getattr(torch, f"{name}Storage") for name in _STORAGES},
    **{("torch", name): getattr(torch, name) for name in ("float32", "float64", "float16", "bfloat16", "int64")},
}


class Inert(dict):  # type: ignore[type-arg]
    """Stands for whatever a file names: takes any argument, holds any item, does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> "Inert":
        """Take anything."""
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __call__(self, *_: Any, **__: Any) -> "Inert":
        """Do nothing."""
        return self

    def __setstate__(self, _: Any) -> None:
        pass

    def append(self, _: Any) -> None:
        """Swallow an item of a list."""

    def extend(self, _: Any) -> None:
        """Swallow items of a list."""

    add = append

    def __hash__(self) -> int:  # type: ignore[override]
        return id(self)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return ALLOWED.get((module, name), Inert)


def _load(file: Any, **options: Any) -> Any:
    return _Unpickler(file, **options).load()


# What torch.load takes for Python's pickle.
_INERT_PICKLE = types.ModuleType("inert_pickle")
_INERT_PICKLE.__dict__.update(Unpickler=_Unpickler, load=_load, UnpicklingError=pickle.UnpicklingError)


def read_foreign(path: Path) -> dict[str, Any]:
    """Return what a .safetensors, .pt, .pth or .ckpt file holds, on the CPU.

    Raises UserError for a file that is missing, or that is none of these.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path}: not found")
    try:
        if path.suffix == ".safetensors":
            with safe_open(str(path), framework="pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        found = torch.load(path, map_location="cpu", weights_only=False, pickle_module=_INERT_PICKLE)
    except (SafetensorError, OSError, EOFError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"checkpoint {path}: cannot be read as safetensors or as a file of torch.save ({reason}); download it again"
        ) from None
    except (TypeError, AttributeError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise UserError(
            f"checkpoint {path}: its pickled part is damaged, or builds its tensors by something other than torch's own "
            f"functions ({type(error).__name__}: {error}); save its weights as safetensors and import that"
        ) from None
    if not isinstance(found, dict) or isinstance(found, Inert):
        raise UserError(
            f"checkpoint {path}: holds a {type(found).__name__}, not a dictionary of weights; save model.state_dict()"
        )
    return found


def weights_of(path: Path, found: dict[str, Any], parts: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the weights among what a file holds: under the first of `parts` that is there, else at its top.

    Raises UserError naming what the file has instead.
    """
    chosen = next((found[part] for part in parts if isinstance(found.get(part), dict)), found)
    state = {str(name): value.detach() for name, value in chosen.items() if isinstance(value, Tensor)}
    if not state:
        raise UserError(
            f"checkpoint {path}: no weights found under {', '.join(parts)} or at its top; it holds: "
            f"{', '.join(map(str, list(found)[:8])) or 'nothing'}"
        )
    # Wrappers for many devices and compilers put a word in front of every name.
    for prefix in ("_orig_mod.", "module."):
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state
