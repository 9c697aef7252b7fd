"""The metadata in a weights file, with its checks; reading it needs no torch."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import safe_open

from vistok.errors import UserError, damage_is_a_mistake
from vistok.torch_files import is_pickled

SCHEMA = 1
AGAIN = "copy it again, or export it again"


class NotVistoks(UserError):
    """A file that is not damaged but was written by another program."""


def read_header(path: Path) -> dict[str, Any]:
    """Return the metadata of a weights file without reading its weights; raises UserError if it is missing or damaged, NotVistoks
    if it was written by another program."""
    with opened_weights(path) as (_, header):
        return header


@contextmanager
def opened_weights(path: Path, framework: str = "np") -> Iterator[tuple[Any, dict[str, Any]]]:
    """Open a weights file and check its metadata: yields the safetensors file and the metadata.

    Raises UserError as `read_header` does.
    """
    if not path.is_file():
        raise UserError(f"weights {path}: not found")
    if is_pickled(path):
        raise NotVistoks(f"weights {path}: a file of torch.save, not vistok's safetensors")
    with damage_is_a_mistake(f"weights {path}", AGAIN), safe_open(str(path), framework=framework) as file:
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
    renamed = stored is None and any(value == header_sum(header, name) for name, value in header.items())
    if renamed or (stored is not None and stored != header_sum(header)):
        raise UserError(
            f"weights {path}: the header does not match its stored checksum, so the file is damaged; {AGAIN}"
        )
    if header.get("schema_version") != SCHEMA:
        raise UserError(
            f"weights {path}: schema version {header.get('schema_version')!s:.20}, this vistok reads {SCHEMA}; "
            "use the version of vistok that wrote it, or export it again"
        )
    return header


def header_sum(header: dict[str, Any], without: str = "header_sha256") -> str:
    """Return the SHA-256 of the metadata, but for the field that holds it."""
    kept = {name: value for name, value in header.items() if name != without}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
