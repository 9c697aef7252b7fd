"""Hugging Face's parquet files (a column of encoded images, one of labels) as a source.

A parquet file can only be read in large pieces, so its images are copied once into a flat file in the user's cache
folder, where each is found by its place.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vistok.data.config import DataConfig
from vistok.data.packed import Packed, PackedSource, listed, open_packed
from vistok.errors import UserError
from vistok.files import user_cache, write_atomic

IMAGE_COLUMNS = ("image", "img", "jpg", "png")
LABEL_COLUMNS = ("label", "labels", "fine_label", "cls")
ROWS = 256


def load(config: DataConfig, split: str) -> PackedSource:
    """Return one split of the parquet files below the folder `config.root`, such as `train-00000-of-00041.parquet`.

    Class names come from the files' Hugging Face metadata. Raises UserError naming a file that has no images.
    """
    root = Path(config.root)
    names = sorted(str(path) for path in root.rglob("*.parquet")) if root.is_dir() else []
    if not names:
        raise UserError(f"folder of parquet files {config.root!r}: no .parquet file found; name it with --data")
    return open_packed(names, lambda name: listed(Path(name), lambda: _unpacked(Path(name))), config, split)


def _unpacked(path: Path) -> Packed:
    reader = _open(path)
    image, label = (_column(reader, names) for names in (IMAGE_COLUMNS, LABEL_COLUMNS))
    if image is None:
        raise UserError(
            f"parquet file {path}: no column of images; looked for {', '.join(IMAGE_COLUMNS)}, it has "
            f"{', '.join(reader.schema_arrow.names)}"
        )
    stamp = path.stat()
    key = hashlib.sha256(f"{path.resolve()} {stamp.st_size} {stamp.st_mtime_ns}".encode()).hexdigest()[:24]
    flat = user_cache() / "packed" / f"{key}.images"
    sizes: list[int] = []
    labels: list[int] = []

    def pieces() -> Iterator[bytes]:
        for batch in reader.iter_batches(ROWS, columns=[name for name in (image, label) if name]):
            columns = batch.to_pydict()
            labels.extend(columns[label] if label else [0] * batch.num_rows)
            for number, cell in enumerate(columns[image]):
                data = cell.get("bytes") if isinstance(cell, dict) else cell
                if not isinstance(data, bytes):
                    raise UserError(f"parquet file {path}: row {len(sizes) + number} has no image bytes")
                yield data
            sizes.extend(len(cell["bytes"] if isinstance(cell, dict) else cell) for cell in columns[image])

    write_atomic(flat, pieces())
    lengths = np.array(sizes, dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64) if len(lengths) else lengths
    return Packed(flat, offsets, lengths, np.array(labels, dtype=np.int64), _class_names(reader, label))


def _open(path: Path) -> Any:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UserError("parquet files need pyarrow; install vistok[parquet]") from None
    try:
        return ParquetFile(path)
    except (OSError, ArrowException) as error:
        raise UserError(f"parquet file {path}: cannot be read ({error}); copy it again") from None


def _column(reader: Any, names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in reader.schema_arrow.names), None)


def _class_names(reader: Any, label: str | None) -> tuple[str, ...]:
    """Return the names that Hugging Face's metadata gives to the labels; none where there is no metadata."""
    try:
        found = json.loads((reader.schema_arrow.metadata or {})[b"huggingface"])
        return tuple(found["info"]["features"][label]["names"])
    except (KeyError, TypeError, ValueError):
        return ()
