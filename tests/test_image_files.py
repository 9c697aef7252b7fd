"""Single image files: what is read, what it becomes, and what is never started."""

import io
import os
import stat
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, features

from vistok.data.images.image_file import BadImage, decode, read_image
from vistok.data.images.names import image_suffixes, is_hidden, is_hidden_below, split_of_folder
from vistok.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)


def saved(kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind, **options)
    return buffer.getvalue()


def with_chunk(name, data):
    """A PNG with one more chunk before its pixels."""
    png = saved("PNG")
    chunk = struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return png[:33] + chunk + png[33:]


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(mark) (w) file\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("name", ["figure.png", "figure.eps"])
def test_postscript_starts_no_program(name, tmp_path, monkeypatch):
    mark = tmp_path / "was-started"
    for program in ("gs", "gswin32c", "gswin64c"):
        stub = tmp_path / "bin" / program
        stub.parent.mkdir(exist_ok=True)
        stub.write_text(f"#!/bin/sh\ntouch {mark}\necho 10.0\n")
        stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # not what an earlier look for it found
    (tmp_path / name).write_bytes(POSTSCRIPT)
    with pytest.raises(UserError, match=f"{name}: cannot be read .not one of PNG, JPEG.*whatever its suffix says"):
        read_image(tmp_path / name, 3, 16)
    assert not mark.exists()


@pytest.mark.parametrize("kind", ["PPM", "TIFF", "BMP", "GIF", "QOI", "MPO"])
def test_a_file_is_what_its_bytes_say(kind, tmp_path):
    (tmp_path / "photo.png").write_bytes(saved(kind))
    image = read_image(tmp_path / "photo.png", 3, 16)
    assert image.shape == PIXELS.shape
    if kind in ("PPM", "TIFF", "BMP", "QOI"):
        np.testing.assert_array_equal(image, PIXELS)


def test_suffixes_are_those_that_pillow_reads():
    assert {".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"} <= set(image_suffixes())
    assert (".jp2" in image_suffixes()) >= features.check("jpg_2000")
    assert not {".eps", ".ps", ".wmf", ".pdf", ".txt"} & set(image_suffixes())


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize(
    "exif",
    [b"neither Exif nor TIFF", b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x01\0\0\0\x06\0\0\0\0\0\0\0"],
    ids=["not TIFF", "orientation as text"],
)
def test_of_images_with_damaged_exif_the_pixels_count(kind, exif):
    pixels, unusual = decode(io.BytesIO(saved(kind, exif=exif, lossless=True)), 3, 16)
    np.testing.assert_array_equal(pixels, PIXELS)
    assert unusual == ("damaged EXIF",)


def test_good_exif_turns_and_an_undefined_orientation_does_not():
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels, unusual = decode(io.BytesIO(saved("PNG", exif=exif)), 3, 16)
    np.testing.assert_array_equal(pixels, np.rot90(PIXELS, -1))
    assert unusual == ("rotated",)
    exif[0x0112] = 0  # as some cameras write
    pixels, unusual = decode(io.BytesIO(saved("PNG", exif=exif)), 3, 16)
    np.testing.assert_array_equal(pixels, PIXELS)
    assert unusual == ()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * 2_000_000)),
        (b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(b"x" * 2_000_000)),
        (b"iCCP", b"profile\0\0" + zlib.compress(b"x" * 2_000_000)),
        (b"gAMA", b"?"),
    ],
)
def test_of_a_png_with_metadata_that_pillow_refuses_the_pixels_count(name, data):
    pixels, unusual = decode(io.BytesIO(with_chunk(name, data)), 3, 16)
    np.testing.assert_array_equal(pixels, PIXELS)
    assert unusual == ("unreadable metadata",)
    whole = with_chunk(name, data)
    with pytest.raises(BadImage, match="truncated|cut|ended"):
        decode(io.BytesIO(whole[:-300]), 3, 16)


def tiff(values, sample_format):
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF", tiffinfo={339: sample_format})
    # Pillow says of all 32-bit images that they are signed.
    return io.BytesIO(
        buffer.getvalue().replace(struct.pack("<HHIH", 339, 3, 1, 2), struct.pack("<HHIH", 339, 3, 1, sample_format))
    )


@pytest.mark.parametrize(
    ("values", "sample_format", "expected"),
    [
        (np.array([[-32768, -1, 0, 32767]], np.int16).view(np.uint16), 2, [0, 127, 128, 255]),
        (np.array([[-128, -1, 0, 127]], np.int8).view(np.uint8), 2, [0, 127, 128, 255]),
        (np.array([[-32768, 0, 32767, 16384]], np.int32), 2, [0, 128, 255, 191]),
        (np.array([[-65536, 0, 65536, 32768]], np.int32), 2, [0, 128, 255, 191]),
        (np.array([[0, 65535, 6554, 13107]], np.int32), 2, [0, 255, 26, 51]),
        (np.array([[0, 2**32 - 1, 2**31]], np.uint32).view(np.int32), 1, [0, 255, 128]),
        (np.array([[0, 65535, 6554]], np.uint16), 1, [0, 255, 26]),
    ],
    ids=["int16", "int8", "int32 as 16", "int32", "int32 from 0", "uint32", "uint16"],
)
def test_black_and_white_of_a_tiff_are_those_of_its_numbers(values, sample_format, expected):
    pixels, unusual = decode(tiff(values, sample_format), 1, 16)
    assert pixels[0, :, 0].tolist() == expected
    assert ("signed" in unusual) == (sample_format == 2)


def test_what_is_hidden_and_what_means_a_split():
    for name in (
        ".thumbnails",
        ".ipynb_checkpoints",
        "__MACOSX",
        "._0001.jpg",
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
    ):
        assert is_hidden(name) and is_hidden_below(f"cats/{name}") and is_hidden_below(f"{name}/x.jpg")
    assert not is_hidden_below("../cats/./x.jpg")
    found = {
        name: split_of_folder(name) for name in ("Train", "Training", "valid", "dev", "Validation", "TEST", "Testing")
    }
    assert list(found.values()) == ["train", "train", "val", "val", "val", "test", "test"]
    assert split_of_folder("training-set") is None
