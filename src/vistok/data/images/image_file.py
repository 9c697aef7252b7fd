"""Decoding one image file to uint8, and noting what is unusual about it."""

import io
import os
import stat
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from vistok.data.images.names import FORMATS, formats
from vistok.errors import UserError, reason
from vistok.files import read_bytes

# Files above this are taken for decompression bombs; the largest cameras stay below.
MAX_PIXELS = 200_000_000

# TIFF tags, which EXIF shares.
_BITS, _ORIENTATION, _SAMPLE_FORMAT = 258, 274, 339
_SIGNED = 2
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ONTO_ITS_SIDE = tuple(turn for number, turn in _TURNS.items() if number >= 5)
_PNG = b"\x89PNG\r\n\x1a\n"
# The chunks of a PNG that determine its pixels, and eXIf, which is read separately.
_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT", b"eXIf")


class BadImage(Exception):
    """A file that cannot be used as an image; the message says why."""


def read_image(path: Path, channels: int, size: int) -> np.ndarray:
    """Decode a file to uint8 (height, width, channels), both sides at least `size` if the file is that large.

    A much larger JPEG is decoded at a fraction of its size, never below twice `size`, which is several times faster.
    Transparent images are put on white, animations are reduced to their first frame, and images are turned upright by
    their EXIF tag. Raises UserError naming the file if it cannot be read.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return decode(path, channels, size)[0]
        except BadImage as error:
            raise UserError(f"image {path}: cannot be read ({error}); remove or replace the file") from None
        except OSError as error:
            raise not_read(path, error) from None


def not_read(path: Path, error: OSError, what: str = "image") -> UserError:
    """Return the error for an image or folder (`what`) that the machine fails to read."""
    return UserError(
        f"{what} {path}: cannot be read ({error.strerror or reason(error)}). This says nothing about its contents: check "
        "that it exists, that you may read it and that its disk works, then repeat the command"
    )


def file_bytes(path: Path) -> bytes:
    """Return a file's contents; raises BadImage for a pipe or folder, and OSError naming it if the machine fails."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise BadImage("not a regular file")
    return read_bytes(path)


def open_image(data: io.BytesIO) -> Image.Image:
    """Return the image in some bytes, not yet decoded. Every image is opened here.

    Its first bytes, not its suffix, determine the format, and only `FORMATS` are tried: for some others, Pillow starts a
    program (Ghostscript for PostScript). Raises BadImage for anything else.
    """
    if not data.getbuffer().nbytes:
        raise BadImage("the file is empty")
    try:
        return Image.open(data, formats=formats())
    except UnidentifiedImageError:
        raise BadImage(f"not one of {', '.join(FORMATS)}, whatever its suffix says, or damaged at its start") from None


def decode(source: Path | io.BytesIO, channels: int, size: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the pixels as `read_image` does, and what is unusual about the file or its bytes.

    Unusual are: "1-channel", "colour" (if grey is wanted), "CMYK", "16-bit", "signed", "float", "palette",
    "transparent", "animated", "rotated"; "damaged EXIF" (the image counts as upright) and "unreadable metadata" (parts
    of a PNG other than its pixels, such as an overlong text; they are ignored). Raises BadImage, and OSError if the
    machine fails to read the file.
    """
    data = io.BytesIO(file_bytes(source)) if isinstance(source, Path) else source
    try:
        return _decoded(data, channels, size)
    except BadImage:
        bare = _without_metadata(data.getvalue())
        if bare is None:
            raise
    pixels, kinds = _decoded(io.BytesIO(bare), channels, size)
    return pixels, (*kinds, "unreadable metadata")


def _decoded(data: io.BytesIO, channels: int, size: int) -> tuple[np.ndarray, tuple[str, ...]]:
    try:
        with open_image(data) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise BadImage(
                    f"{opened.width}x{opened.height} pixels, more than {MAX_PIXELS:,}: a decompression bomb?"
                )
            kinds = _unusual(opened, channels)
            signed = _signed_bits(opened)
            opened.draft("L" if channels == 1 else "RGB", (2 * size, 2 * size))
            opened.load()
            turn = None if "damaged EXIF" in kinds else _turn(opened)
            image = opened if turn is None else opened.transpose(turn)
            return _to_uint8(image, channels, signed), kinds
    except BadImage:
        raise
    except Exception as error:  # on bytes that are not an image, decoders raise almost anything
        raise BadImage(reason(error)) from None


def _without_metadata(data: bytes) -> bytes | None:
    """Return a PNG with only the chunks its pixels need; None for other files, and for PNGs with no other chunks."""
    if not data.startswith(_PNG):
        return None
    kept, at = [_PNG], len(_PNG)
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] in _PNG_PIXELS:
            kept.append(data[at:end])
        at = end
    bare = b"".join(kept)
    return bare if len(bare) < len(data) else None


def _unusual(image: Image.Image, channels: int) -> tuple[str, ...]:
    mode = image.mode
    kinds = {
        "1-channel": channels == 3 and mode in ("1", "L", "LA"),
        "colour": channels == 1 and mode in ("RGB", "RGBA", "YCbCr", "LAB", "HSV", "RGBX"),
        "CMYK": mode == "CMYK",
        "16-bit": mode.startswith("I"),
        "signed": _signed_bits(image) > 0,
        "float": mode == "F",
        "palette": mode in ("P", "PA"),
        "transparent": _is_see_through(image),
        "animated": bool(getattr(image, "is_animated", False)),
    }
    if image.format == "PNG":
        image.load()  # EXIF may follow the pixels; loading them first keeps their errors apart from those of EXIF
    try:
        kinds["rotated"] = _turn(image) is not None
    except Exception:  # it too may raise almost anything
        kinds["damaged EXIF"] = True
    return tuple(name for name, is_so in kinds.items() if is_so)


def _is_see_through(image: Image.Image) -> bool:
    """Return whether any pixel is transparent: many files have a channel for it in which all is opaque."""
    if not image.has_transparency_data:
        return False
    opacity = image if "A" in image.getbands() else image.convert("RGBA")
    return bool(np.asarray(opacity.getchannel("A")).min() < 255)


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return how to turn an image upright; damaged EXIF may raise any exception."""
    orientation = image.getexif().get(_ORIENTATION, 1)
    turn = _TURNS.get(orientation)
    if turn is None and not isinstance(orientation, int):
        raise ValueError(f"orientation {orientation!r}")
    return turn


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height of an opened image as it is read: turned upright by its EXIF tag, unless that is damaged."""
    try:
        turn = _turn(image)
    except Exception:
        turn = None
    return (image.height, image.width) if turn in _ONTO_ITS_SIDE else image.size


def _signed_bits(image: Image.Image) -> int:
    """Return the bits per sample if a TIFF declares signed integers, else 0."""
    tags = getattr(image, "tag_v2", {})
    return int(tags.get(_BITS, (1,))[0]) if _SIGNED in tags.get(_SAMPLE_FORMAT, ()) else 0


def pixels_of(picture: Image.Image) -> np.ndarray:
    """Return a Pillow picture as uint8 (height, width, channels), converted as files are; 1 channel if it is grey.

    Raises BadImage if it holds values that are not finite.
    """
    return _to_uint8(picture, 1 if picture.mode in ("1", "L", "LA", "F") or picture.mode.startswith("I") else 3, 0)


def _to_uint8(image: Image.Image, channels: int, signed: int) -> np.ndarray:
    if signed or image.mode.startswith("I") or image.mode == "F":
        image = _scaled(image, signed)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    array = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return array[:, :, None] if channels == 1 else array


def _scaled(image: Image.Image, signed: int) -> Image.Image:
    """Convert an image whose values are not bytes to 8-bit grey.

    Black and white are the limits of the declared number type, so that dark images stay dark: 0 and 65,535 for 16 bits,
    -32,768 and 32,767 for signed 16 bits (0 is then a middle grey), -128 and 127 for signed 8 bits. 32 bits do not
    define white: such images are treated as 16-bit, extended to their own lowest and highest values if these are
    outside. For floats, black is 0, and white the first of 1, 255 and 65,535 that is not below their highest value.
    """
    values = np.asarray(image)
    if signed == 8:
        values = values.view(np.int8)
    elif image.mode == "I" and not signed:
        values = values.view(np.uint32)  # Pillow stores unsigned 32-bit values as signed
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise BadImage("it holds values that are not finite")
    black, white = _range(image.mode, signed, float(values.min(initial=0.0)), float(values.max(initial=0.0)))
    return Image.fromarray(((values - black) / (white - black) * 255).clip(0, 255).round().astype(np.uint8))


def _range(mode: str, signed: int, lowest: float, highest: float) -> tuple[float, float]:
    if signed in (8, 16):
        return -(2.0 ** (signed - 1)), 2.0 ** (signed - 1) - 1
    if mode.startswith("I;16"):
        return 0.0, 65_535.0
    if mode == "F":
        return 0.0, next((white for white in (1.0, 255.0, 65_535.0) if highest <= white), highest)
    return (min(-32_768.0, lowest), max(32_767.0, highest)) if lowest < 0 else (0.0, max(65_535.0, highest))
