"""Figures on a plain ground: whole in every crop, or close up; other pictures as ever."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from vistok.data.config import DataConfig
from vistok.data.images.framing import figure_of
from vistok.data.images.image_file import read_image
from vistok.data.images.transforms import prepare
from vistok.start.look import look_at, seen
from vistok.start.plan import lines
from vistok.start.proposal import plan_start

GROUND = (250, 240, 60)


def config(framing, size=32, **others):
    return DataConfig(dataset="folder", image_size=size, channels=3, crop_scale=0.8, framing=framing, **others)


def picture(top, left, height, width, sides=(60, 60)):
    """A dark rectangle on a yellow ground."""
    image = np.full((*sides, 3), GROUND, np.uint8)
    image[top : top + height, left : left + width] = (20, 30, 120)
    return image


def crops(image, chosen, count=200):
    return [prepare(image, chosen, np.random.default_rng(seed)) for seed in range(count)]


def is_ground(pixels):
    return (np.abs(pixels.astype(int) - GROUND).max(-1) < 100).all()


def edges(image):
    return np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])


def dark(image):
    return (image.mean(-1) < 120).sum()


@pytest.mark.parametrize("place", [(4, 4, 20, 50), (20, 3, 36, 20), (3, 3, 54, 54), (30, 30, 8, 8)])
def test_a_figure_is_never_cut_off(place):
    image = picture(*place)
    assert all(is_ground(edges(crop)) for crop in crops(image, config("whole")))
    if max(place[2:]) > 30:  # so it would be, were it not kept whole
        assert not all(is_ground(edges(crop)) for crop in crops(image, config("crop")))


def test_figures_are_drawn_as_large_as_they_are_and_all_around_their_place():
    image = picture(20, 25, 20, 20)
    found = crops(image, config("whole"), 400)
    area = np.array([dark(crop) for crop in found]) / dark(prepare(image, config("whole"), None))
    assert 0.95 < np.sqrt(area).mean() < 1.15 and np.sqrt(area).min() < 0.95 and np.sqrt(area).max() > 1.15
    rows = [np.flatnonzero((crop.mean(-1) < 120).any(1))[0] for crop in found]
    assert max(rows) - min(rows) >= 6


def test_without_a_generator_a_whole_picture_is_the_centre_crop():
    image = picture(10, 30, 30, 40, (60, 90))
    assert np.array_equal(prepare(image, config("whole"), None), prepare(image, config("crop"), None))


@pytest.mark.parametrize("framing", ["whole", "close"])
def test_pictures_without_a_plain_ground_are_cropped_as_ever(framing):
    image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    empty = picture(0, 0, 0, 0)
    for ever in (image, empty):
        assert all(
            np.array_equal(one, other)
            for one, other in zip(crops(ever, config(framing), 9), crops(ever, config("crop"), 9), strict=True)
        )
        assert np.array_equal(prepare(ever, config(framing), None), prepare(ever, config("crop"), None))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("place", [(40, 50, 10, 6), (1, 1, 9, 9), (5, 0, 40, 100)])
def test_close_up_a_figure_fills_the_picture_wherever_it_stood(channels, place):
    image = picture(*place, sides=(70, 100))[:, :, :channels]
    chosen = config("close").replace(channels=channels)
    shown = prepare(image, chosen, None)[:, :, 0] < (int(image.min()) + int(image.max())) / 2
    rows, columns = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    assert max(len(rows), len(columns)) in (28, 29)  # of 32
    assert abs(rows.mean() - 15.5) <= 1 and abs(columns.mean() - 15.5) <= 1  # in the middle
    assert abs(len(columns) / len(rows) / (place[3] / place[2]) - 1) < 0.1
    assert all((abs(edges(crop)[:, 0].astype(int) - image[-1, -1, 0]) < 100).all() for crop in crops(image, chosen, 50))


def test_a_figure_that_the_centre_crop_misses_does_no_harm():
    image = picture(10, 90, 8, 8, (30, 100))
    assert all(is_ground(crop) for crop in crops(image, config("whole"), 50))


@pytest.mark.parametrize("framing", ["whole", "close"])
def test_a_figure_that_its_picture_cuts_off_stays_at_that_edge(framing):
    """A bust does not hang in the air."""
    image = picture(30, 20, 30, 24)  # to the bottom
    for crop in [prepare(image, config(framing), None), *crops(image, config(framing))]:
        assert dark(crop[-1:]) and is_ground(crop[0]) and is_ground(crop[:, 0]) and is_ground(crop[:, -1])


@pytest.mark.parametrize("sides", [(8000, 40), (40, 8000)])
def test_a_long_thin_picture_needs_no_square_of_its_length(sides):
    image = picture(10, 10, sides[0] - 20, sides[1] - 20, sides)
    tracemalloc.start()
    shown = prepare(image, config("close"), np.random.default_rng(0))
    assert tracemalloc.get_traced_memory()[1] < 20e6  # its square has 192 MB
    tracemalloc.stop()
    assert 0 < (np.abs(shown.astype(int) - GROUND).max(-1) > 8).sum() < 100


def test_a_small_part_of_a_large_jpeg_keeps_its_detail(tmp_path):
    """JPEG files are decoded small, but of this one a tenth is shown."""
    image = np.full((2000, 2000, 3), 255, np.uint8)
    image[900:1100, 900:1100] = np.where(np.indices((200, 200)).sum(0) // 20 % 2, 255, 0)[..., None]
    Image.fromarray(image).save(tmp_path / "board.jpg", quality=95)
    chosen = config("close", 64)
    assert prepare(read_image(tmp_path / "board.jpg", 3, chosen.least_side), chosen, None)[8:56, 8:56].std() > 80


def test_a_little_noise_leaves_a_ground_plain():
    noise = np.random.default_rng(0).integers(-4, 5, (60, 60, 3))
    image = (picture(10, 15, 20, 25).astype(int) + noise).clip(0, 255).astype(np.uint8)
    box = figure_of(image).box
    assert (box.top, box.left, box.height, box.width) == (10, 15, 20, 25)
    noise = np.random.default_rng(0).normal(0, 8, (800, 800, 3))
    image = (picture(200, 300, 200, 100, (800, 800)).astype(int) + noise).clip(0, 255).astype(np.uint8)
    image[700, 700] = 0  # a speck
    box = figure_of(image).box
    assert abs(box.top - 200) < 7 and abs(box.left - 300) < 7 and box.height < 215 and box.width < 115


def saved(folder, transparent, side, sides, count=20):
    folder.mkdir()
    for number in range(count):
        image = picture(10 + number, 15, side, side, sides[:: -1 if number % 2 else 1])
        file = Image.fromarray(image)
        if transparent:
            file.putalpha(Image.fromarray(np.where((image == GROUND).all(-1), 0, 255).astype(np.uint8)))
        file.save(folder / f"{number}.png")
    return str(folder)


@pytest.mark.parametrize(
    ("transparent", "side", "sides", "framing", "said"),
    [
        (True, 20, (100, 100), "close", "fills 20% of a typical one's side"),
        (True, 80, (100, 100), "whole", "crops will not cut it off"),
        (False, 20, (100, 100), "whole", "crops will not cut it off"),
        (False, 80, (100, 200), "close", "A crop of one shape from their middles would cut off"),
    ],
)
def test_a_start_frames_pictures_as_they_are(transparent, side, sides, framing, said, tmp_path, monkeypatch):
    look = look_at(saved(tmp_path / "sprites", transparent, side, sides))
    assert look.framing == framing
    monkeypatch.setattr("vistok.start.proposal.rate.tokenizer_step_seconds", lambda run: 0.1)
    monkeypatch.setattr("vistok.start.proposal.rate.generator_step_seconds", lambda run, space, classes: 0.1)
    plan = plan_start(look, 300, lambda side, kind: None)
    assert plan.tokenizer_config().data.framing == framing
    text = "\n".join(lines(plan, look))
    assert said in text and f'data.framing="{framing}"' in text
    if framing == "close":
        assert (
            f"their sides have a median of {int(1.125 * side)} pixels" in text and "middle" not in text.split("Plan")[1]
        )
    # A plan of an earlier version: what is said is what it does.
    former = replace(plan, tokenizer=replace(plan.tokenizer, settings=()))
    assert said not in "\n".join(lines(former, look))


def test_grey_is_what_stands_there_not_the_ground_around_it(tmp_path):
    for number in range(12):
        image = np.full((200, 200, 4), 255, np.uint8)
        image[..., 3] = 0
        image[90 + number : 104 + number, 90:104] = (255, 0, 0, 255)
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    look = look_at(str(tmp_path))
    assert (look.grey, look.framing) == (False, "close")


@pytest.mark.parametrize("kind", ["rotated", "16-bit"])
def test_a_look_sees_what_training_reads(kind, tmp_path):
    image = np.full((200, 200), 60_000 if kind == "16-bit" else 250, np.uint16 if kind == "16-bit" else np.uint8)
    image[80:120, 20:180] = 0
    turned = Image.Exif()
    turned[274] = 6
    Image.fromarray(image).save(tmp_path / "0.png", **({"exif": turned} if kind == "rotated" else {}))
    figure = seen(tmp_path / "0.png").figure
    wide, tall = (figure.height, figure.width) if kind == "rotated" else (figure.width, figure.height)
    assert abs(wide - 0.8) < 0.03 and abs(tall - 0.2) < 0.03
