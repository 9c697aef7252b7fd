"""Hugging Face's parquet files (a column of encoded images and one of labels) as a source.

A parquet file can only be read in large pieces, so its images are copied once into a flat file in the user's cache
folder, from which each can be read by offset.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vistok.data.config import DataConfig
from vistok.data.images.names import is_hidden_below
from vistok.data.images.packed import PackedSource, open_packed
from vistok.data.images.packed_files import Packed, key_of, listed
from vistok.data.images.parquet_labels import Labels, label_column
from vistok.errors import UserError, damage_is_a_mistake
from vistok.files import named_error, sweep, user_cache, write_atomic

IMAGE_COLUMNS = ("image", "img", "jpg", "png")
ROWS = 256


def load(config: DataConfig, split: str) -> PackedSource:
    """Return one split of the parquet files below the folder `config.root`, such as `train-00000-of-00041.parquet`.

    Class names come from the files' Hugging Face metadata, or are the labels themselves if these are strings. Raises
    UserError naming a file without images, or the row of an invalid label.
    """
    root = Path(config.root)
    below = sorted(root.rglob("*.parquet")) if root.is_dir() else []
    names = [str(path) for path in below if not is_hidden_below(path.relative_to(root).as_posix())]
    if not names:
        raise UserError(f"folder of parquet files {config.root!r}: no .parquet file found; give the folder with --data")
    return open_packed(names, _listed, config, split)


def _listed(name: str) -> Packed:
    return listed(Path(name), name, "", lambda: _unpacked(Path(name)))


def _unpacked(path: Path) -> Packed:
    with damage_is_a_mistake(f"parquet file {path}", "copy it again"):
        reader = _open(path)
        image, label, note = _image_column(reader, path), *label_column(reader.schema_arrow)
        labels = Labels(path, label, _class_names(reader, label))
        flat = user_cache() / "packed" / f"{key_of(path)}.images"
        sweep(flat.parent, of=flat.name)
        sizes: list[int] = []
        write_atomic(flat, _images(reader, path, image, labels, sizes))
        numbers, names = labels.finished()
    lengths = np.array(sizes, dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64) if len(lengths) else lengths
    return Packed(
        file=flat,
        offsets=offsets,
        sizes=lengths,
        labels=numbers,
        class_names=names,
        by_name=labels.by_name,
        labelled_by=f"column {label!r}" if label else "",
        notes=(note,) if note else (),
    )


def _open(path: Path) -> Any:
    try:
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise UserError("parquet files need pyarrow; install vistok[parquet]") from None
    return ParquetFile(path, page_checksum_verification=True)


def _images(reader: Any, path: Path, image: str, labels: Labels, sizes: list[int]) -> Iterator[bytes]:
    """Yield the bytes of every image, adding their sizes to `sizes` and their rows' labels to `labels`."""
    columns = [image] if labels.column is None else [image, labels.column]
    for batch in _batches(reader, path, columns):
        if labels.column is not None:
            labels.add(batch.column(labels.column))
        for cell in batch.column(image).to_pylist():
            data = cell.get("bytes") if isinstance(cell, dict) else cell
            if not isinstance(data, bytes):
                raise UserError(f"parquet file {path}: row {len(sizes)} has no image bytes in column {image!r}")
            sizes.append(len(data))
            yield data
    labels.rows = len(sizes)


def _batches(reader: Any, path: Path, columns: list[str]) -> Iterator[Any]:
    """Yield batches of rows; an OSError names the user's file, not the one being written."""
    try:
        yield from reader.iter_batches(ROWS, columns=columns)
    except OSError as error:
        raise named_error(path, error) from None


def _image_column(reader: Any, path: Path) -> str:
    """Return the first column in IMAGE_COLUMNS, ignoring case, that holds bytes."""
    from pyarrow import types

    fields = {field.name.lower(): field for field in reader.schema_arrow}
    named = [fields[name] for name in IMAGE_COLUMNS if name in fields]
    for field in named:
        kinds = [field.type]
        if types.is_struct(field.type):
            kinds = [part.type for part in field.type if part.name == "bytes"]
        if any(types.is_binary(kind) or types.is_large_binary(kind) for kind in kinds):
            return str(field.name)
    if named:
        raise UserError(
            f"parquet file {path}: column {named[0].name!r} holds {named[0].type}, not image bytes; it must be as Hugging "
            "Face writes it, a binary column or a struct with 'bytes'"
        )
    raise UserError(
        f"parquet file {path}: no column of images; looked for {', '.join(IMAGE_COLUMNS)}, but it has "
        f"{', '.join(reader.schema_arrow.names)}"
    )


def _class_names(reader: Any, label: str | None) -> tuple[str, ...]:
    """Return the names that Hugging Face's metadata gives to the labels; () without metadata."""
    try:
        metadata = json.loads((reader.schema_arrow.metadata or {})[b"huggingface"])
        names = metadata["info"]["features"][label]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()
