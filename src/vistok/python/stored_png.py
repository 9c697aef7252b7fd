"""PNG without compression: the same pixels are the same bytes, whatever library and version writes them."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2}
_MOST = 2**16 - 1  # bytes in a stored block


def png_of(pixels: np.ndarray) -> bytes:
    """Return uint8 pixels, (height, width, channels) with 1 or 3 channels, as the bytes of a PNG."""
    height, width, channels = pixels.shape
    rows = np.zeros((height, 1 + width * channels), dtype=np.uint8)  # each row begins with its filter: 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    raw = rows.tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    stream = b"".join((b"\x78\x01", *_blocks(raw), struct.pack(">I", zlib.adler32(raw))))
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", stream) + _chunk(b"IEND", b"")


def _blocks(raw: bytes) -> Iterator[bytes]:
    """Yield deflate's stored blocks: last or not, the length, its complement, the bytes."""
    for start in range(0, len(raw), _MOST):
        block = raw[start : start + _MOST]
        last = start + _MOST >= len(raw)
        yield struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF) + block


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
