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
from vistok.files import disk_error, owned, replacing, sweep, sync, temporary_folder
from vistok.runs.pictures import SUFFIXES, check_side, sheet, write_picture
from vistok.verbs.output import output_file
from vistok.verbs.sample_sheet import Layout

# Pictures in a folder, by the name of their format; a sheet is one picture, in a format that its name says.
PICTURES = tuple(suffix.removeprefix(".") for suffix in SUFFIXES)
KINDS = ("grid", *PICTURES, "npz")
Batches = Iterable[UInt8[Tensor, "batch channels height width"]]
PIECE = 2**24  # bytes copied at once
_PICTURE = re.compile(rf"[0-9]{{6,}}-class[0-9]{{3,}}\.({'|'.join(PICTURES)})")
_ASIDE = ".samples"


def samples_place(out: Path | None, kind: str | None) -> tuple[Path, str]:
    """Return where samples will go and their format: a file for `grid` and `npz`, else a folder of pictures.

    `out` and `kind` are what the user gave; without a format, a name that ends in .npz says it, and anything else is a sheet.
    Raises UserError for an unknown format, and for a place that cannot be used, before hours of sampling.
    """
    if kind is None:
        kind = "npz" if out is not None and out.suffix.lower() == ".npz" and not out.is_dir() else "grid"
    if kind not in KINDS:
        raise UserError(f"--format {kind!r}: allowed are {', '.join(KINDS)}")
    if kind in PICTURES:
        return _free_for_pictures(out or Path("samples"), kind), kind
    suffixes = SUFFIXES if kind == "grid" else (".npz",)
    default = f"samples{suffixes[0]}"
    return output_file(out or Path(default), default, suffixes), kind


def _free_for_pictures(folder: Path, kind: str) -> Path:
    """Return the folder. Raises UserError if it holds anything but earlier samples, which would mix with the new."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder} is a file; --format {kind} writes a folder of pictures")
    if not folder.exists() and folder.suffix.lower() in (*SUFFIXES, ".npz"):
        raise UserError(
            f"--out {folder}: --format {kind} writes a folder of pictures, one for each sample; leave out --format to write one "
            "file, or name a folder"
        )
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not (_PICTURE.fullmatch(file.name) or is_hidden(file.name)):
            raise UserError(
                f"--out {folder} holds {file.name}, which is not a sample and would be mixed with the samples; name a new "
                "or an empty folder"
            )
    return folder


def earlier_pictures(place: Path) -> list[Path]:
    """Return the samples that a folder already holds; new ones replace all of them, in whatever format."""
    return [file for file in sorted(place.iterdir()) if _PICTURE.fullmatch(file.name)] if place.is_dir() else []


def write_samples(
    batches: Batches, labels: Int[Tensor, "count"], place: Path, kind: str, layout: Layout, world: World = ALONE,
    first: int = 0,
) -> Path:  # fmt: skip
    """Write images as a `grid` (one picture), pictures in a folder, or `npz` (ADM's layout) to a `samples_place`.

    `batches`: this process's images, from number `first` on; those of all processes, joined by rank, are in order. ADM's evaluator reads
    `arr_0`, uint8 (count, height, width, 3), and `arr_1`, the labels. Raises UserError if another command is writing
    there.
    """
    with _claimed(place, kind) if world.main else nullcontext():
        if kind == "grid":
            _write_sheet(batches, place, layout, world)
        elif kind in PICTURES:
            _write_pictures(batches, labels, place, kind, world, first)
        else:
            _write_npz(batches, labels, place, world)
        world.wait()
    return place


@contextmanager
def _claimed(place: Path, kind: str) -> Iterator[None]:
    with owned(place):
        sweep(*((place, _ASIDE) if kind in PICTURES else (place.parent, place.name)))
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


def _write_sheet(batches: Batches, path: Path, layout: Layout, world: World) -> None:
    with replacing(path) if world.main else nullcontext() as file:  # opened first, to fail early
        mine = []
        for images in batches:
            check_side(path, max(layout.size(*images.shape[2:])))
            mine.append(images)
        images = world.join(mine)
        if file is not None:
            write_picture(file, layout.picture(images), path.suffix)


def _write_pictures(batches: Batches, labels: Tensor, folder: Path, kind: str, world: World, first: int) -> None:
    """Write pictures to a temporary folder, then move all into place: a folder never mixes two commands' samples."""
    with _aside(folder / _ASIDE, world) as aside:
        for number, image in enumerate((image for batch in batches for image in batch), first):
            file = aside / f"{number:06d}-class{int(labels[number]):03d}.{kind}"
            with replacing(file) as opened:
                write_picture(opened, sheet(image[None], 1), file.suffix)
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
