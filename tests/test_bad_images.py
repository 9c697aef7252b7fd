"""Folders as people have them: every file that is no good is named and counted, before a run begins."""

import json
import os
import random
import shutil
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vistok.config import override
from vistok.data.config import DataConfig
from vistok.data.images.folder import load_folder
from vistok.data.images.image_file import BadImage, decode, read_image
from vistok.errors import UserError
from vistok.recipes import find_recipe
from vistok.verbs import train_tokenizer

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 24, 3), dtype=np.uint8)


def config(root, **changes):
    return DataConfig(dataset="folder", root=str(root), image_size=16, channels=3, **changes)


def bomb(path):
    """A PNG of a few bytes that claims a billion pixels."""
    header = struct.pack(">IIBBBBB", 40_000, 30_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header)) + chunk + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    )  # fmt: skip


def make(kind, path):
    image = Image.fromarray(PIXELS)
    if kind == "corrupt":
        path.write_bytes(b"this is no image")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        image.resize((200, 200)).save(path)
        path.write_bytes(path.read_bytes()[:-4000])
    elif kind == "bomb":
        bomb(path)
    elif kind == "dangling":
        path.symlink_to("nowhere.png")
    elif kind == "circular":
        path.symlink_to(path.name)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "nan":
        Image.fromarray(np.full((8, 8), np.nan, dtype=np.float32)).save(path)


UNREADABLE = {
    "corrupt": ("bad.png", "not one of PNG, JPEG"),
    "empty": ("bad.jpg", "the file is empty"),
    "truncated": ("bad.jpg", "truncated"),
    "bomb": ("bad.png", "decompression bomb"),
    "dangling": ("bad.png", "No such file"),
    "circular": ("bad.png", "symbolic links"),
    "pipe": ("bad.png", "not a regular file"),
    "nan": ("bad.tif", "not finite"),
}


@pytest.fixture()
def folder(photo_folder, tmp_path):
    return shutil.copytree(photo_folder, tmp_path / "photos")


@pytest.mark.parametrize("kind", UNREADABLE)
def test_unreadable_files_are_refused_or_skipped_and_counted(kind, folder):
    name, reason = UNREADABLE[kind]
    make(kind, folder / "waves" / name)
    with pytest.raises(
        UserError, match=f"1 of 91 images cannot be read: waves/{name} .*{reason}.*unreadable_images=skip"
    ):
        load_folder(config(folder), "train")
    skipping = config(folder, unreadable_images="skip")
    parts = [load_folder(skipping, split) for split in ("train", "val", "test")]
    assert sum(map(len, parts)) == 90 and f"waves/{name}" not in sum((part.files for part in parts), [])
    record = parts[0].report.record()
    assert record["found"] == 91 and record["used"] == 90 and record["num_skipped"] == 1
    assert reason in record["skipped"][f"waves/{name}"]
    assert "1 of 91 images is skipped" in parts[0].report.warnings()[0]
    for index in range(len(parts[0])):
        assert parts[0].read(index).dtype == np.uint8


def test_unreadable_permissions(folder):
    file = folder / "waves" / "00.png"
    file.chmod(0)
    (folder / "waves").chmod(0o755)
    user = os.geteuid()
    if user == 0:
        for place in (folder, *folder.parents):
            if place.stat().st_mode & 0o005 != 0o005:  # pytest's own folders are closed
                place.chmod(0o755)
        os.seteuid(65_534)  # root may read everything
    try:
        with pytest.raises(UserError, match="waves/00.png .Permission denied"):
            load_folder(config(folder), "train")
    finally:
        os.seteuid(user)


def save_unusual(kind, path):
    image = Image.fromarray(PIXELS)
    if kind == "rotated":
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(path, exif=exif)
    elif kind == "animated":
        image.save(path, save_all=True, append_images=[Image.fromarray(255 - PIXELS)])
    elif kind == "16-bit":
        Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257).save(path)
    elif kind == "transparent":
        image.putalpha(254)
        image.save(path)
    else:
        image.convert({"1-channel": "L", "CMYK": "CMYK", "palette": "P"}[kind]).save(path)


@pytest.mark.parametrize(
    ("kind", "suffix", "what_happens"),
    [
        ("1-channel", "png", "and will be converted"), ("CMYK", "jpg", "and will be converted"),
        ("16-bit", "png", "and will be converted"), ("palette", "png", "and will be converted"),
        ("animated", "webp", "and is reduced to its first frame"), ("rotated", "jpg", "and is turned upright"),
        ("transparent", "png", "and is put on white"),
    ],
)  # fmt: skip
def test_unusual_files_are_converted_skipped_or_refused_and_counted(kind, suffix, what_happens, folder):
    name = f"circles/odd.{suffix}"
    save_unusual(kind, folder / name)
    found = load_folder(config(folder), "train")
    assert found.report.record()["unusual"][kind] == {"count": 1, "first": [name]}
    assert f"1 of 91 images is {kind} {what_happens}, such as {name}" in found.report.warnings()
    image = read_image(folder / name, 3, 16)
    assert image.shape == ((24, 20, 3) if kind == "rotated" else (20, 24, 3))
    skipped = load_folder(config(folder, unusual_images="skip"), "train").report.record()
    assert skipped["num_skipped"] == 1 and kind in skipped["skipped"][name]
    with pytest.raises(UserError, match=f"1 of 91 images is unusual: {name} .*{kind}.*unusual_images=convert"):
        load_folder(config(folder, unusual_images="refuse"), "train")


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_channel_in_which_all_is_opaque_makes_no_picture_transparent(mode, folder):
    Image.fromarray(PIXELS).convert(mode).save(folder / "circles/opaque.png")
    palette = Image.fromarray(PIXELS[..., 0] // 2).convert("P")
    palette.save(folder / "circles/unused.png", transparency=palette.getextrema()[1] + 1)
    found = load_folder(config(folder), "train").report.unusual
    assert "transparent" not in found, found


def test_the_count_is_in_the_runs_record(folder, tmp_path, quiet):
    make("corrupt", folder / "waves" / "bad.png")
    settings = ["length=1 steps", "tokenizer.quantizer.start_after=null", "batch_size=2", f'data.root="{folder}"', "data.unreadable_images=skip",
                "tokenizer.encoder.channels=8", "tokenizer.decoder.channels=8"]  # fmt: skip
    run = train_tokenizer.prepare(override(find_recipe("images64_vq"), settings), tmp_path / "runs").train(quiet)
    record = json.loads((run.path / "resolved.json").read_text())["images"]
    assert record["found"] == 91 and record["used"] == 90 and list(record["skipped"]) == ["waves/bad.png"]


def test_refused_before_anything_is_written(folder, tmp_path):
    make("truncated", folder / "waves" / "bad.jpg")
    with pytest.raises(UserError, match="cannot be read"):
        train_tokenizer.prepare(override(find_recipe("images64_vq"), [f'data.root="{folder}"']), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_links_that_lead_in_a_circle(folder):
    (folder / "waves" / "again").symlink_to(folder)
    with pytest.raises(UserError, match="waves/again .a symbolic link that leads in a circle"):
        load_folder(config(folder), "train")
    assert len(load_folder(config(folder, unreadable_images="skip"), "train")) == 72


def test_linked_class_folders_are_followed(folder, tmp_path):
    shutil.move(folder / "waves", tmp_path / "elsewhere")
    (folder / "waves").symlink_to(tmp_path / "elsewhere")
    source = load_folder(config(folder), "train")
    assert source.class_names == ("circles", "stripes", "waves") and len(source) == 72


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda root: (root / "dogs").mkdir(), "class folders without any images: dogs"),
        (
            lambda root: shutil.copytree(root / "waves", root / "Waves"),
            "Waves, waves differ only in case",
        ),
        (lambda root: [(root / name).mkdir() for name in ("val", "validation")], "both 'val' and 'validation'"),
        (lambda root: [shutil.rmtree(root / name) for name in ("circles", "stripes", "waves")], "no images found"),
    ],
)
def test_folders_that_cannot_be_meant(change, words, folder):
    change(folder)
    with pytest.raises(UserError, match=words):
        load_folder(config(folder), "train")


def test_one_image_and_none_that_can_be_read(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "only.png")
    with pytest.raises(UserError, match="split 'train' is empty; at least 3 images are needed in total, found 1"):
        load_folder(config(tmp_path), "train")
    make("corrupt", tmp_path / "only.png")
    with pytest.raises(UserError, match="found 1, of which 0 can be used"):
        load_folder(config(tmp_path, unreadable_images="skip"), "train")


def test_copies_and_leaks_are_counted(folder):
    source = load_folder(config(folder), "train")
    held_out = load_folder(config(folder), "test").files[0]
    shutil.copy(folder / held_out, folder / f"{held_out.split('/')[0]}/zz{held_out[-4:]}")
    shutil.copy(folder / source.files[0], folder / "circles" / f"yy{source.files[0][-4:]}")
    again = load_folder(config(folder), "train")
    trained_on = {name.split("/")[1][:2] for name in again.files}
    assert again.report.duplicates == 2
    assert bool(again.report.leaked) == ("zz" in trained_on or "yy" not in trained_on)


def test_a_changed_file_is_looked_at_again(folder):
    first = load_folder(config(folder), "train")
    victim = folder / first.files[0]
    before = victim.stat()
    Image.fromarray(255 - PIXELS).save(victim)
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    assert load_folder(config(folder), "train").digest != first.digest
    make("corrupt", victim)
    with pytest.raises(UserError, match="cannot be read"):
        load_folder(config(folder), "train")


def test_a_damaged_or_missing_index_only_costs_time(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "own"))
    digest = load_folder(config(folder), "train").digest
    (index,) = (tmp_path / "own" / "vistok").glob("images-*.npz")
    index.write_bytes(index.read_bytes()[:-100])
    assert load_folder(config(folder), "train").digest == digest
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))  # no folder can be made there
    assert load_folder(config(folder), "train").digest == digest


def seeds():
    """Small files of every format, to be mangled."""
    from io import BytesIO

    made = []
    for suffix in ("PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"):
        buffer = BytesIO()
        Image.fromarray(PIXELS).save(buffer, format=suffix)
        made.append(buffer.getvalue())
    return made


SEEDS = seeds()


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.sampled_from(SEEDS), st.randoms(use_true_random=False), st.sampled_from(["flip", "cut", "insert", "noise"]))
def test_mangled_files_are_images_or_bad_images(tmp_path_factory, data, rng: random.Random, how):
    """Whatever the bytes: pixels of the right kind, or BadImage. Nothing else, and no warning."""
    mangled = bytearray(data)
    if how == "flip":
        for _ in range(rng.randint(1, 8)):
            mangled[rng.randrange(len(mangled))] ^= 1 << rng.randrange(8)
    elif how == "cut":
        del mangled[rng.randrange(len(mangled)) :]
    elif how == "insert":
        at = rng.randrange(len(mangled))
        mangled[at:at] = rng.randbytes(rng.randint(1, 20))
    else:
        mangled = bytearray(rng.randbytes(rng.randint(0, 400)))
    path = tmp_path_factory.getbasetemp() / "mangled.png"
    path.write_bytes(mangled)
    import warnings

    for channels in (1, 3):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                pixels, kinds = decode(path, channels, 16)
            except BadImage as error:
                assert str(error)
                continue
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == channels
        assert all(isinstance(kind, str) for kind in kinds)
