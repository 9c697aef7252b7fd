"""Weights files that include their config: safetensors, which cannot run code."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from vistok.engine.weights_header import AGAIN, SCHEMA, header_sum, opened_weights
from vistok.errors import UserError
from vistok.files import write_atomic

# Fields about the file itself, which `save_weights` fills in even when given a header from another file.
_OWN = ("schema_version", "digest", "header_sha256")


def weights_digest(state: dict[str, Tensor]) -> str:
    """Return a digest of names, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_weights(path: Path, state: dict[str, Tensor], metadata: dict[str, Any], make_folder: bool = True) -> str:
    """Write weights and JSON metadata atomically; return the digest of the weights, which is stored too.

    The SHA-256 of the metadata is also stored, as a flipped bit there could change what the weights mean. A missing
    folder is created unless `make_folder` is off. Raises UserError for weights that contain NaN or infinity.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    _require_finite(state, f"weights {path} are not written")
    digest = weights_digest(state)
    kept = {name: value for name, value in metadata.items() if name not in _OWN}
    # As it will be read back: keys as strings, tuples as lists.
    header = json.loads(json.dumps({"schema_version": SCHEMA, "digest": digest, **kept}))
    header["header_sha256"] = header_sum(header)
    write_atomic(path, save(state, metadata={"vistok": json.dumps(header, sort_keys=True)}), make_folder)
    return digest


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights and metadata.

    Raises UserError if the file is missing or damaged, or its weights contain NaN or infinity; NotVistoks if it was
    written by another program.
    """
    what = f"weights {path}"
    with opened_weights(path, "pt") as (file, header):
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if weights_digest(state) != header["digest"]:
            raise UserError(f"{what}: the digest differs from the stored one, so the file is damaged; {AGAIN}")
    _require_finite(state, what)
    return state, header


def _require_finite(state: dict[str, Tensor], what: str) -> None:
    """Raise UserError if a tensor of floats contains NaN or infinity."""
    bad = [name for name, value in state.items() if not _finite(value)]
    if bad:
        raise UserError(
            f"{what}: {len(bad)} of {len(state)} tensors contain NaN or infinity (first: {bad[0]}): the training that "
            "produced them diverged. Use weights from before that"
        )


def _finite(value: Tensor) -> bool:
    if not (value.is_floating_point() or value.is_complex()):
        return True
    # torch has no isfinite for 8-bit floats.
    return bool(torch.isfinite(value.float() if value.element_size() == 1 else value).all())
