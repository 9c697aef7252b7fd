"""benchmarks/free_pictures.py without its packages: what is cut from a picture."""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def pictures(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import free_pictures

    yield free_pictures
    for name in ("free_pictures", "free_collections"):
        del sys.modules[name]


def encoded(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(height, width, channels), dtype=np.uint8)


def test_squares_are_the_same_each_time_and_inside_the_picture(pictures):
    first, second = (pictures.squares(800, 500, 30, np.random.default_rng(5)) for _ in range(2))
    assert first == second
    assert first[0] == (150, 0, 500)  # The whole, as far as a square shows it.
    assert len(first) == 11  # (500 / 96) ** 1.5
    assert len(pictures.squares(800, 500, 4, np.random.default_rng(5))) == 4
    assert pictures.squares(64, 80, 30, np.random.default_rng(5)) == [(0, 8, 64)]
    for left, top, side in first:
        assert side >= pictures.SIDE and left >= 0 and top >= 0 and left + side <= 800 and top + side <= 500


def test_crops_that_show_nothing_are_dropped(pictures):
    collection = pictures.Collection("package", "licence", crops=20)
    values = np.full((400, 800, 3), 200, dtype=np.uint8)
    assert not list(pictures.pieces(encoded(values), collection, np.random.default_rng(0)))
    values[:, 400:] = noise(400, 400)
    found = list(pictures.pieces(encoded(values), collection, np.random.default_rng(0)))
    assert 0 < len(found) < len(pictures.squares(800, 400, 20, np.random.default_rng(0)))
    assert {piece.size for piece in found} == {(pictures.SIDE, pictures.SIDE)}
    assert not any(pictures.is_empty(piece) for piece in found)
    assert not list(pictures.pieces(encoded(noise(40, 400)), collection, np.random.default_rng(0)))  # Too small.


def test_transparent_pictures_are_cut_to_what_they_show(pictures):
    values = np.zeros((200, 200, 4), dtype=np.uint8)
    values[150:170, 20:50] = (255, 0, 0, 255)
    shown = np.asarray(pictures.on_ground(Image.fromarray(values), np.random.default_rng(0)))
    assert shown.shape[0] == shown.shape[1] < 40
    assert (shown == (255, 0, 0)).all(axis=2).sum() == 20 * 30


def test_a_made_collection_is_recorded_and_the_same_each_time(pictures, tmp_path):
    package = tmp_path / "cache/package"
    (package / "usr/share/doc/package").mkdir(parents=True)
    (package / "usr/share/doc/package/copyright").write_text("free")
    (package / ".version").write_text("1.2")
    with zipfile.ZipFile(package / "data.zip", "w") as archive:
        archive.writestr("textures/stone/a.png", encoded(noise(300, 300)))
        archive.writestr("textures/stone/a-copy.png", encoded(noise(300, 300)))
        archive.writestr("textures/stone/flat.png", encoded(np.zeros((300, 300, 3), dtype=np.uint8)))
        archive.writestr("textures/stone/broken.png", b"\x89PNG")
    collection = pictures.Collection(
        "package", "CC0-1.0", reads="zips", crops=3, classes=lambda name: name.split("/")[1]
    )
    record = pictures.make("stones", collection, tmp_path / "out", tmp_path / "cache")
    assert record["version"] == "1.2" and record["sources"] == 1 and record["pictures"] == 3
    written = sorted((tmp_path / "out/train/stones/stone").iterdir())
    assert len(written) == 3
    assert (tmp_path / "out/licences/package").read_text() == "free"
    before = [path.read_bytes() for path in written]
    pictures.make("stones", collection, tmp_path / "out", tmp_path / "cache")
    assert [path.read_bytes() for path in written] == before
