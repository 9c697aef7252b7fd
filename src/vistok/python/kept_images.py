"""Images from memory as a file that every verb reads: `<runs>/images-<digest>/images.tar`, by webdataset's rules.

The file is a function of pixels, labels and class names alone, so that the same images get the same file, and a run on
them the same name, on any machine.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vistok.engine.log import Progress
from vistok.errors import UserError, counted
from vistok.files import replace_synced, sync, temporary_folder
from vistok.python.given import Given
from vistok.python.given_labels import class_numbers
from vistok.python.stored_png import png_of

FILE, DATASET = "images.tar", "webdataset"
LEAST = 3  # one for each split


def keep(given: Given, runs: Path, progress: Progress) -> Path:
    """Write images below a folder of runs, whole or not at all, unless they are there already; return their folder.

    Raises UserError if the images differ each time they are read, and if the disk is full.
    """
    if given.count < LEAST:
        raise UserError(
            f"{given.what}: {counted(given.count, 'image')}; give at least {LEAST}, as some are held out of training"
        )
    with progress.task("reading the images", given.count) as bar:
        looked = _look(given, bar.advance)
    folder = runs.absolute() / f"images-{looked.digest[:10]}"
    if (folder / FILE).is_file():
        return folder
    with temporary_folder(folder) as aside, progress.task(f"keeping them in {folder.name}", given.count) as bar:
        _write(given, looked, aside / FILE, bar.advance)
        sync(aside)
        replace_synced(aside, folder)
    return folder


@dataclass(frozen=True)
class _Looked:
    """What one reading of all images shows: a digest of each, their class numbers, the names of the classes."""

    images: Sequence[bytes]
    labels: np.ndarray
    class_names: tuple[str, ...]

    @property
    def digest(self) -> str:
        """A digest of all images, labels and names."""
        whole = hashlib.sha256(b"".join(self.images))
        whole.update(self.labels.astype("<i8").tobytes() + json.dumps(self.class_names).encode())
        return whole.hexdigest()


def _look(given: Given, advance: Callable[[], None]) -> _Looked:
    images: list[bytes] = []
    labels: list[Any] = []
    for pixels, label in given:
        images.append(_digest(pixels))
        labels.append(label)
        advance()
    without = [number for number, label in enumerate(labels) if label is None]
    if 0 < len(without) < len(labels):
        raise UserError(
            f"{given.what}: {len(without):,} of {len(labels):,} have no label, such as number {without[0]}; label all or none"
        )
    return _Looked(images, *class_numbers(labels, given.classes))


def _digest(pixels: np.ndarray) -> bytes:
    return hashlib.sha256(f"{pixels.shape}".encode() + np.ascontiguousarray(pixels).tobytes()).digest()


def _write(given: Given, looked: _Looked, path: Path, advance: Callable[[], None]) -> None:
    with path.open("wb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            if looked.class_names:
                _add(tar, "classes.json", json.dumps(looked.class_names).encode())
            for number, (pixels, _) in enumerate(given):
                if _digest(pixels) != looked.images[number]:
                    raise UserError(
                        f"{given.what}: image {number} differs each time it is read, as random transforms make it; give images "
                        "without them (recipes crop and flip by data.crop_scale and data.horizontal_flip)"
                    )
                _add(tar, f"{number:08d}.png", png_of(pixels))
                if looked.class_names:
                    _add(tar, f"{number:08d}.cls", str(looked.labels[number]).encode())
                advance()
        file.flush()
        os.fsync(file.fileno())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))
