"""Weights files that include their config: safetensors, which cannot run code."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from vistok.errors import UserError, damage_is_a_mistake
from vistok.files import write_atomic
from vistok.torch_files import is_pickled

SCHEMA = 1
AGAIN = "copy it again, or export it again"
# Fields about the file itself, which `save_weights` fills in even when given a header from another file.
_OWN = ("schema_version", "digest", "header_sha256")


class NotVistoks(UserError):
    """A file that is not damaged but was written by another program."""


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
    header["header_sha256"] = _header_sum(header)
    write_atomic(path, save(state, metadata={"vistok": json.dumps(header, sort_keys=True)}), make_folder)
    return digest


def load_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read weights and metadata.

    Raises UserError if the file is missing or damaged, or its weights contain NaN or infinity; NotVistoks if it was
    written by another program.
    """
    what = f"weights {path}"
    with _opened(path) as (file, header):
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if weights_digest(state) != header["digest"]:
            raise UserError(f"{what}: the digest differs from the stored one, so the file is damaged; {AGAIN}")
    _require_finite(state, what)
    return state, header


def read_header(path: Path) -> dict[str, Any]:
    """Return the metadata of a weights file without reading its weights; raises the same errors as `load_weights`."""
    with _opened(path) as (_, header):
        return header


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    if not path.is_file():
        raise UserError(f"weights {path}: not found")
    if is_pickled(path):
        raise NotVistoks(f"weights {path}: a file of torch.save, not vistok's safetensors")
    with damage_is_a_mistake(f"weights {path}", AGAIN), safe_open(str(path), framework="pt") as file:
        text = (file.metadata() or {}).get("vistok")
        if text is None:
            raise NotVistoks(f"weights {path}: not written by vistok (no vistok metadata)")
        yield file, _read_header(text, path)


def _read_header(text: str, path: Path) -> dict[str, Any]:
    header = json.loads(text)
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    stored = header.get("header_sha256")
    # Files of earlier versions have no sum. If it is there under another key, the key itself was damaged.
    renamed = stored is None and any(value == _header_sum(header, name) for name, value in header.items())
    if renamed or (stored is not None and stored != _header_sum(header)):
        raise UserError(
            f"weights {path}: the header does not match its stored checksum, so the file is damaged; {AGAIN}"
        )
    if header.get("schema_version") != SCHEMA:
        raise UserError(
            f"weights {path}: schema version {header.get('schema_version')!s:.20}, this vistok reads {SCHEMA}; "
            "use the version of vistok that wrote it, or export it again"
        )
    return header


def _header_sum(header: dict[str, Any], without: str = "header_sha256") -> str:
    kept = {name: value for name, value in header.items() if name != without}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


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
