"""Weights with their config inside: safetensors, which cannot run code."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vistok.errors import UserError
from vistok.files import write_atomic
from vistok.torch_files import IMPORT, is_pickled

SCHEMA = 1


def weights_digest(state: dict[str, Tensor]) -> str:
    """Return a digest of names, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_weights(path: Path, state: dict[str, Tensor], metadata: dict[str, Any]) -> str:
    """Write weights and JSON metadata atomically; return their digest, which is stored too."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    digest = weights_digest(state)
    header = {"schema_version": SCHEMA, "digest": digest, **metadata}
    write_atomic(path, save(state, metadata={"vistok": json.dumps(header, sort_keys=True)}))
    return digest


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights and metadata. Raises UserError for a file that is missing, damaged or not vistok's."""
    if not path.is_file():
        raise UserError(f"weights {path}: not found")
    if is_pickled(path):
        raise UserError(f"weights {path}: a pickled checkpoint, and vistok's weights are safetensors; {IMPORT}")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("vistok", "null"))
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"weights {path}: cannot be read as safetensors ({error}); export or copy it again") from None
    if header is None:
        raise UserError(f"weights {path}: not written by vistok (no vistok metadata); {IMPORT}")
    if header.get("schema_version") != SCHEMA:
        raise UserError(
            f"weights {path}: schema version {header.get('schema_version')}, this vistok reads {SCHEMA}; "
            "use the version of vistok that wrote it, or export it again"
        )
    if weights_digest(state) != header["digest"]:
        raise UserError(f"weights {path}: digest differs from the stored one, the file is damaged; copy it again")
    return state, header
