"""One image file: decoded to uint8, with what is unusual about it."""

import io
import os
import stat
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vistok.errors import UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
# Above this a file is taken for a decompression bomb; the largest cameras stay below.
MAX_PIXELS = 200_000_000


class BadImage(Exception):
    """A file that cannot be used as an image; the message says why."""


def read_image(path: Path, channels: int, size: int) -> np.ndarray:
    """Decode a file to uint8 (height, width, channels), both sides at least `size` where the file has them.

    A JPEG many times larger is decoded at a fraction of its size, never below twice `size`, which is
    several times faster. Transparency is laid on white; of an animation the first frame is taken; an
    image is turned upright by its EXIF tag. Raises UserError naming the file that cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return decode(path, channels, size)[0]
        except BadImage as error:
            raise UserError(f"image {path}: cannot be read ({error}); remove or replace the file") from None


def decode(path: Path | io.BytesIO, channels: int, size: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the pixels as `read_image` does, and what is unusual about the file or its bytes; raises BadImage.

    Unusual: "1-channel", "colour" (where grey is wanted), "CMYK", "16-bit", "float", "palette",
    "transparent", "animated", "rotated".
    """
    try:
        if isinstance(path, Path) and not stat.S_ISREG(os.stat(path).st_mode):
            raise BadImage("it is no regular file")
        with Image.open(path) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise BadImage(
                    f"{opened.width}x{opened.height} pixels, more than {MAX_PIXELS:,}: a decompression bomb?"
                )
            kinds = _unusual(opened, channels)
            opened.draft("L" if channels == 1 else "RGB", (2 * size, 2 * size))
            image: Image.Image = ImageOps.exif_transpose(opened)
            image.load()
        return _to_uint8(image, channels), kinds
    except BadImage:
        raise
    except OSError as error:
        raise BadImage(error.strerror or str(error)) from None
    except Exception as error:  # on bytes that are no image the decoders raise nearly every kind
        raise BadImage(str(error) or type(error).__name__) from None


def _unusual(image: Image.Image, channels: int) -> tuple[str, ...]:
    mode = image.mode
    found = {
        "1-channel": channels == 3 and mode in ("1", "L", "LA"),
        "colour": channels == 1 and mode in ("RGB", "RGBA", "YCbCr", "LAB", "HSV", "RGBX"),
        "CMYK": mode == "CMYK",
        "16-bit": mode.startswith("I"),
        "float": mode == "F",
        "palette": mode in ("P", "PA"),
        "transparent": mode in ("RGBA", "LA", "PA") or "transparency" in image.info,
        "animated": bool(getattr(image, "is_animated", False)),
        "rotated": image.getexif().get(0x0112, 1) != 1,
    }
    return tuple(name for name, is_so in found.items() if is_so)


def _to_uint8(image: Image.Image, channels: int) -> np.ndarray:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        if not np.isfinite(values).all():
            raise BadImage("it holds values that are not finite")
        image = Image.fromarray((values / _white(image.mode, values) * 255).clip(0, 255).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return array[:, :, None] if channels == 1 else array


def _white(mode: str, values: np.ndarray) -> float:
    """Return the value of white: by depth where the file says it, so that dark images stay dark."""
    if mode.startswith("I;16"):
        return 65_535.0
    top = float(values.max(initial=0.0))
    return next((white for white in (1.0, 255.0, 65_535.0) if mode == "F" and top <= white), max(65_535.0, top))
