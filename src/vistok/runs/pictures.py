"""Sheets of images, and PNG bytes for pages."""

import io
from pathlib import Path
from typing import IO, Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from vistok.errors import UserError
from vistok.files import write_atomic

GAP = 2
# Formats for pictures, by suffix: Pillow's name, the longest side it can hold, and options for saving.
FORMATS: dict[str, tuple[str, int, dict[str, Any]]] = {
    ".png": ("PNG", 2**31 - 1, {"optimize": True}),
    ".jpg": ("JPEG", 65_500, {"quality": 95}),
    ".jpeg": ("JPEG", 65_500, {"quality": 95}),
    ".webp": ("WEBP", 16_383, {"lossless": True}),
}
SUFFIXES = tuple(FORMATS)


def sheet_size(count: int, height: int, width: int, columns: int, scale: int = 1) -> tuple[int, int]:
    """Return the height and width of a sheet in pixels."""
    rows = -(-count // columns)
    return scale * (rows * (height + GAP) - GAP), scale * (columns * (width + GAP) - GAP)


def sheet(images: UInt8[Tensor, "count channels height width"], columns: int, scale: int = 1) -> Image.Image:
    """Lay images out in rows on white, each pixel enlarged `scale` times."""
    count, _, height, width = images.shape
    cell_h, cell_w = height + GAP, width + GAP
    canvas = np.full((*sheet_size(count, height, width, columns), 3), 255, dtype=np.uint8)
    pixels = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
    for i in range(count):
        top, left = (i // columns) * cell_h, (i % columns) * cell_w
        canvas[top : top + height, left : left + width] = pixels[i]
    picture = Image.fromarray(canvas)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def png_bytes(picture: Image.Image) -> bytes:
    """Encode a picture as PNG."""
    buffer = io.BytesIO()
    write_picture(buffer, picture, ".png")
    return buffer.getvalue()


def save_png(path: Path, picture: Image.Image, make_folder: bool = True) -> None:
    """Write a PNG atomically; a missing folder is created unless `make_folder` is off."""
    write_atomic(path, png_bytes(picture), make_folder)


def check_side(path: Path, side: int) -> None:
    """Raise UserError if the format that `path` names cannot hold a picture with a side of this many pixels."""
    name, most, _ = FORMATS[path.suffix.lower()]
    if side > most:
        raise UserError(f"{path}: the picture's longer side has {side} pixels, but {name} allows {most}; write a .png")


def write_picture(file: IO[bytes], picture: Image.Image, suffix: str) -> None:
    """Write a picture into an open file, in the format that a suffix of `FORMATS` names: lossless in all but JPEG."""
    name, _, how = FORMATS[suffix.lower()]
    picture.save(file, format=name, **how)


def display_scale(size: int) -> int:
    """Return how much to enlarge small images so that they are easy to see."""
    return max(1, 84 // size)
