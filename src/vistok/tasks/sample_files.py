"""Samples as files: one picture, a folder of pictures, or ADM's .npz. Only the picture holds them all in memory."""

import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from torch import Tensor

from vistok.engine.distributed import ALONE, World
from vistok.errors import UserError
from vistok.files import disk_error, replace_synced, write_atomic
from vistok.tasks.pictures import display_scale, png_bytes, save_png, sheet
from vistok.tasks.sample import BATCH

KINDS = ("grid", "png", "npz")
Batches = Iterable[UInt8[Tensor, "batch channels height width"]]
PIECE = 2**24  # bytes copied at once


def check_kind(kind: str) -> None:
    """Raise UserError for a format that is not known: before hours of sampling, not after."""
    if kind not in KINDS:
        raise UserError(f"--format {kind!r}: allowed are {', '.join(KINDS)}")


def write_samples(
    batches: Batches, labels: Int[Tensor, "count"], out: Path, kind: str, columns: int, world: World = ALONE
) -> Path:
    """Write images as a `grid` (one PNG), `png` (a folder of PNGs) or `npz` (ADM's layout); return where they are.

    `batches`: this process's images, all processes' in order of rank. ADM's evaluator reads `arr_0`, uint8
    (count, height, width, 3), and `arr_1`, the labels.
    """
    check_kind(kind)
    if kind == "grid":
        images = world.join(list(batches))
        path = out.with_suffix(".png")
        if world.main:
            save_png(path, sheet(images, columns, display_scale(images.shape[-1])))
    elif kind == "png":
        path = out
        _write_pictures(batches, labels, path, world)
    else:
        path = out.with_suffix(".npz")
        _write_npz(batches, labels, path, world)
    world.wait()
    return path


def _write_pictures(batches: Batches, labels: Tensor, folder: Path, world: World) -> None:
    for number, image in _numbered(batches, len(labels), world):
        file = folder / f"{number:06d}-class{int(labels[number]):03d}.png"
        write_atomic(file, png_bytes(sheet(image[None], 1)))


def _numbered(batches: Batches, count: int, world: World) -> Iterator[tuple[int, Tensor]]:
    number = world.share_of(range(-(-count // BATCH))).start * BATCH
    for batch in batches:
        for image in batch:
            yield number, image
            number += 1


def _write_npz(batches: Batches, labels: Tensor, path: Path, world: World) -> None:
    """Every process writes its pixels to a file of its own; the main one puts them together."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pieces = [path.with_name(f"{path.name}.part-{rank}") for rank in range(world.size)]
    partial = path.with_name(f"{path.name}.partial")
    try:
        shape: tuple[int, ...] = ()
        with open(pieces[world.rank], "wb") as own:
            for batch in batches:
                pixels = batch.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).contiguous().numpy()
                own.write(pixels.tobytes())
                shape = pixels.shape[1:]
        shapes = [found for found in world.collect(shape) if found]
        if world.main:
            _join(partial, pieces, (len(labels), *shapes[0]), labels.numpy())
            replace_synced(partial, path)
    except OSError as error:
        raise disk_error(path, error) from None
    finally:
        for file in (partial, *pieces) if world.main else ():
            file.unlink(missing_ok=True)


def _join(file: Path, pieces: list[Path], shape: tuple[int, ...], labels: np.ndarray) -> None:
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
