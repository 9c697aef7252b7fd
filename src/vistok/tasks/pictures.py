"""Sheets of images, and PNG bytes for pages."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from vistok.files import write_atomic

GAP = 2


def sheet(images: UInt8[Tensor, "count channels height width"], columns: int, scale: int = 1) -> Image.Image:
    """Lay images out in rows, on white, each pixel enlarged `scale` times."""
    count, _, height, width = images.shape
    rows = -(-count // columns)
    cell_h, cell_w = height + GAP, width + GAP
    canvas = np.full((rows * cell_h - GAP, columns * cell_w - GAP, 3), 255, dtype=np.uint8)
    pixels = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
    for i in range(count):
        top, left = (i // columns) * cell_h, (i % columns) * cell_w
        canvas[top : top + height, left : left + width] = pixels[i]
    picture = Image.fromarray(canvas)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def interleave(rows: Sequence[Tensor]) -> Tensor:
    """Put sheets' rows under each other: first row of each, for `sheet` with columns = images a row."""
    from torch import cat

    return cat(list(rows))


def png_bytes(picture: Image.Image) -> bytes:
    """Encode a picture."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def save_png(path: Path, picture: Image.Image) -> None:
    """Write a PNG atomically."""
    write_atomic(path, png_bytes(picture))


def data_uri(png: bytes) -> str:
    """Return a PNG as a URI for a self-contained page."""
    return "data:image/png;base64," + base64.b64encode(png).decode()


def display_scale(size: int) -> int:
    """Return how much to enlarge small images for the eye."""
    return max(1, 84 // size)
