"""Samples as files: one picture, a folder of pictures, or ADM's .npz. Only the picture holds them all in memory.

Output is written under temporary names and moved into place, complete, at the end: a killed command leaves nothing
half-written, and if two commands write to the same place, the second is refused.
"""

import os
import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Int, UInt8
from torch import Tensor

from vistok.data.images.names import is_hidden
from vistok.engine.distributed import ALONE, World
from vistok.errors import UserError
from vistok.files import disk_error, owned, replacing, sweep, sync, temporary_folder, write_atomic
from vistok.runs.drawing import BATCH
from vistok.runs.pictures import (
    SUFFIXES,
    check_side,
    display_scale,
    png_bytes,
    sheet,
    sheet_size,
    write_picture,
)
from vistok.verbs.output import output_file

KINDS = ("grid", "png", "npz")
Batches = Iterable[UInt8[Tensor, "batch channels height width"]]
PIECE = 2**24  # bytes copied at once
_PICTURE = re.compile(r"[0-9]{6,}-class[0-9]{3,}\.png")
_ASIDE = ".samples"


def samples_place(out: Path | None, kind: str) -> Path:
    """Return where samples will go: a file for `grid` and `npz`, a folder for `png`; `out` is what the user gave.

    Raises UserError for an unknown format, and for a place that cannot be used, before hours of sampling.
    """
    if kind not in KINDS:
        raise UserError(f"--format {kind!r}: allowed are {', '.join(KINDS)}")
    if kind == "png":
        return _free_for_pictures(out or Path("samples"))
    suffixes = SUFFIXES if kind == "grid" else (".npz",)
    default = f"samples{suffixes[0]}"
    return output_file(out or Path(default), default, suffixes)


def _free_for_pictures(folder: Path) -> Path:
    """Return the folder. Raises UserError if it holds anything but earlier samples, which would mix with the new."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is a file; --format png writes a folder of pictures")
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not (_PICTURE.fullmatch(file.name) or is_hidden(file.name)):
            raise UserError(
                f"--out {folder} holds {file.name}, which is not a sample and would be mixed with the samples; name a new "
                "or an empty folder"
            )
    return folder


def earlier_pictures(place: Path) -> list[Path]:
    """Return the samples that a folder already holds; a new `--format png` replaces them."""
    return [file for file in sorted(place.iterdir()) if _PICTURE.fullmatch(file.name)] if place.is_dir() else []


def write_samples(
    batches: Batches, labels: Int[Tensor, "count"], place: Path, kind: str, columns: int, world: World = ALONE
) -> Path:
    """Write images as a `grid` (one picture), `png` (a folder of PNGs) or `npz` (ADM's layout) to a `samples_place`.

    `batches`: this process's images; those of all processes, joined by rank, are in order. ADM's evaluator reads
    `arr_0`, uint8 (count, height, width, 3), and `arr_1`, the labels. Raises UserError if another command is writing
    there.
    """
    with _claimed(place, kind) if world.main else nullcontext():
        if kind == "grid":
            _write_sheet(batches, len(labels), place, columns, world)
        elif kind == "png":
            _write_pictures(batches, labels, place, world)
        else:
            _write_npz(batches, labels, place, world)
        world.wait()
    return place


@contextmanager
def _claimed(place: Path, kind: str) -> Iterator[None]:
    with owned(place):
        sweep(*((place, _ASIDE) if kind == "png" else (place.parent, place.name)))
        yield


@contextmanager
def _aside(place: Path, world: World) -> Iterator[Path]:
    """Yield a temporary folder next to `place`, shared by all processes and removed at the end."""
    with temporary_folder(place) if world.main else nullcontext() as temporary:
        folder = world.agree(temporary)
        try:
            yield folder
        except OSError as error:
            raise disk_error(place, error) from None


def _write_sheet(batches: Batches, count: int, path: Path, columns: int, world: World) -> None:
    with replacing(path) if world.main else nullcontext() as file:  # opened first, to fail early
        mine = []
        for images in batches:
            height, width = images.shape[2:]
            check_side(path, max(sheet_size(count, height, width, columns, display_scale(width))))
            mine.append(images)
        images = world.join(mine)
        if file is not None:
            write_picture(file, sheet(images, columns, display_scale(images.shape[-1])), path.suffix)


def _write_pictures(batches: Batches, labels: Tensor, folder: Path, world: World) -> None:
    """Write pictures to a temporary folder, then move all into place: a folder never mixes two commands' samples."""
    with _aside(folder / _ASIDE, world) as aside:
        for number, image in _numbered(batches, len(labels), world):
            file = aside / f"{number:06d}-class{int(labels[number]):03d}.png"
            write_atomic(file, png_bytes(sheet(image[None], 1)))
        world.wait()
        if world.main:
            _replace_pictures(folder, aside)


def _replace_pictures(folder: Path, aside: Path) -> None:
    before, new = earlier_pictures(folder), earlier_pictures(aside)
    for file in new:
        os.replace(file, folder / file.name)
    for left in {file.name for file in before} - {file.name for file in new}:
        (folder / left).unlink()
    sync(folder)


def _numbered(batches: Batches, count: int, world: World) -> Iterator[tuple[int, Tensor]]:
    number = world.share_of(range(-(-count // BATCH))).start * BATCH
    for batch in batches:
        for image in batch:
            yield number, image
            number += 1


def _write_npz(batches: Batches, labels: Tensor, path: Path, world: World) -> None:
    """Let each process write its pixels to a separate file; the main process joins them."""
    with _aside(path, world) as aside:
        pieces = [aside / f"part-{rank}" for rank in range(world.size)]
        shape: tuple[int, ...] = ()
        with open(pieces[world.rank], "wb") as piece:
            for batch in batches:
                pixels = batch.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()
                piece.write(pixels.tobytes())
                shape = pixels.shape[1:]
        shapes = [sides for sides in world.collect(shape) if sides]
        if world.main:
            with replacing(path) as file:
                _join(file, pieces, (len(labels), *shapes[0]), labels.numpy())


def _join(file: IO[bytes], pieces: list[Path], shape: tuple[int, ...], labels: np.ndarray) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as array:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(array, header)
            for piece in pieces:
                with open(piece, "rb") as source:
                    while block := source.read(PIECE):
                        array.write(block)
        with archive.open("arr_1.npy", "w") as array:
            np.lib.format.write_array(array, labels)
