"""vistok start: what it sees in a folder, what it plans, and that it does it."""

import json
import math
import shlex
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import vistok
from vistok.cli import app
from vistok.data.images.open import open_split
from vistok.data.images.transforms import to_uint8
from vistok.data.latents.cache import LatentCache
from vistok.data.loader import eval_images
from vistok.engine.distributed import ALONE
from vistok.engine.log import Alarm
from vistok.errors import UserError
from vistok.metrics.features import ImageNetFeatures
from vistok.metrics.reconstruction import psnr_per_image
from vistok.nn.efficientnet_lite import load_efficientnet_lite0
from vistok.recipes import find_recipe
from vistok.runs.health.gate import DeadRun
from vistok.runs.initial import initial_weights, load_initial, read_initial
from vistok.runs.load import read_model
from vistok.runs.shipped import shipped_network
from vistok.space import Grid, Tokens
from vistok.start import go as start
from vistok.start import proposal as start_plan
from vistok.start.expect import AsItComes, what_to_expect
from vistok.start.look import Look, look_at, shared_ratio
from vistok.start.plan import Stage, StartPlan, lines, plan_file, seconds_of
from vistok.start.proposal import codes_for, plan_start
from vistok.units import Scale
from vistok.verbs import step_time
from vistok.verbs.cache_latents import cache_tokens
from vistok.verbs.train_tokenizer import build_objective
from vistok.verbs.train_tokenizer import plan as plan_tokenizer

QUICK = ("execution.tensorboard=false", "execution.num_workers=0", "execution.threads=1")
COLOUR = Look("photos", 1000, 900, ("cats", "dogs"), 300, False)


def test_a_folder_is_looked_at(photo_folder, tmp_path):
    look = look_at(str(photo_folder))
    assert (look.count, look.classes, look.grey) == (90, ("circles", "stripes", "waves"), False)
    sides = []
    for path in photo_folder.rglob("*.*"):
        with Image.open(path) as image:
            sides.append(min(image.size))
    assert abs(look.side - np.median(sides)) <= 5  # of those for training
    noise = np.random.default_rng(0).integers(0, 256, (40, 30), np.uint8)
    for number in range(12):
        Image.fromarray(np.roll(noise, number)).convert("RGB" if number % 2 else "L").save(tmp_path / f"{number}.png")
    look = look_at(str(tmp_path))
    assert look.grey and look.side == 30 and len(look.classes) == 1
    assert "12 grey pictures without classes" in look.sentence


def test_pictures_of_a_camera_that_was_held_upright_are_tall(tmp_path):
    noise, turned = np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8), Image.Exif()
    turned[274] = 6
    for number in range(12):
        Image.fromarray(np.roll(noise, number, 0)).save(tmp_path / f"{number}.jpg", exif=turned)
    assert look_at(str(tmp_path)).ratio == 0.6


@pytest.mark.parametrize("name", ["photos", "my.tarot", "flowers.tar.extracted"])
def test_archives_beside_pictures_make_them_no_shards(name, photo_folder, tmp_path):
    there = tmp_path / name
    shutil.copytree(photo_folder, there)
    (there / "backup.tar").write_bytes(b"")
    (there / "labels.parquet").write_bytes(b"")
    assert look_at(str(there)).count == 90
    shutil.rmtree(there)
    (there / "deep").mkdir(parents=True)
    (there / "deep" / "0.tar").write_bytes(b"")
    with pytest.raises(UserError, match="holds webdataset"):
        look_at(str(there))


def test_splits_one_folder_deeper_are_pointed_at(photo_folder, tmp_path):
    for split in ("train", "val"):
        shutil.copytree(photo_folder, tmp_path / "data" / split)
    (remark,) = (line for line in look_at(str(tmp_path)).remarks if "several folders" in line)
    assert remark.endswith(
        f"{tmp_path}/data: give that one, and it holds train and val, which are only then told apart."
    )


def test_each_folder_has_a_plan_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs"

    def kept(root):
        file = plan_file(runs, root, 120)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"root": root}))
        return file

    first = kept("a/photos")
    assert (
        first == runs / "start-photos-2m" / "plan.json" and kept("a/photos/") == kept(f"{tmp_path}/a/photos") == first
    )
    assert kept("b/photos") != first and kept("b/photos") == kept("b/photos/")
    assert kept("фото") != kept("写真") and "фото" in str(kept("фото"))


def test_files_that_broke_since_the_plan_are_left_out():
    plan = StartPlan(
        "photos", 64, 64, 64, Stage("images64_vq", ("seed=1",), 60, 1), Stage("images64_ar", (), 60, 1), None, 60
    )
    mended = plan.leaving_out_broken()
    assert mended.tokenizer_config().data.unreadable_images == "skip" and mended.tokenizer_config().seed == 1
    assert mended.leaving_out_broken() == mended


def test_more_time_takes_more_crops_beside_the_former_ones(toy_runs, quiet, monkeypatch):
    """The tokenizer of two plans may be the same run."""
    made = []
    monkeypatch.setattr(start, "cache_tokens", lambda run, split, progress, out, views: made.append((out.name, views)))
    for views in (("center",), ("3-crops",), ("4-crops",)):
        start._cached(toy_runs[0], views, quiet)
    assert made == [("train", ("center",)), ("train-3-crops", ("3-crops",)), ("train-4-crops", ("4-crops",))]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30m", 1800), ("1.5h", 5400), ("1h30m", 5400), ("90 minutes", 5400), ("2 hours", 7200), ("1 day", 86400)],
)
def test_times_are_read(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["30", "soon", "m", "0m", "30s", "-5m", "1..5h", "3m and more"])
def test_other_times_are_refused(text):
    with pytest.raises(UserError, match="at least a minute, in minutes or hours"):
        seconds_of(text)


@pytest.fixture
def speed(monkeypatch):
    """A machine whose step of a tokenizer takes a second for 128x128 pixels, and one of a generator 0.01 a token."""
    monkeypatch.setattr(
        start_plan.rate, "tokenizer_step_seconds", lambda config: (config.tokenizer.image_size / 128) ** 2
    )
    monkeypatch.setattr(start_plan, "_generator_step_seconds", lambda run, space, classes: space.layout.positions / 100)
    monkeypatch.setattr(start_plan, "_bfloat16_step_seconds", lambda run, space, classes: math.inf)


def planned(look, minutes):
    return plan_start(look, 60 * minutes, lambda side, kind: None)


@pytest.mark.slow
def test_more_time_gives_larger_pictures_and_longer_runs(speed):
    short, longer, longest = (planned(COLOUR, minutes) for minutes in (15, 109.3, 2000))
    assert [plan.side for plan in (short, longer, longest)] == [64, 128, 256]
    again = planned(COLOUR, 30)
    assert again.side == 64 and again.tokenizer.steps > short.tokenizer.steps
    for plan in (short, longer, longest, again):
        total = plan.tokenizer.seconds + plan.generator.seconds
        assert total <= plan.seconds and plan.tokenizer_config().length.value == plan.tokenizer.steps


def test_larger_pictures_of_as_many_tokens_cost_the_generator_nothing(speed):
    plan = planned(COLOUR, 9)
    assert plan.side == 64 and plan.generator_steps_paid < start_plan.ENOUGH_GENERATOR


def test_pictures_are_not_made_larger_than_they_are(speed):
    small = Look("icons", 1000, 900, ("all",), 48, False)
    assert planned(small, 2000).side == 32


@pytest.mark.parametrize("side", [20, 48])
def test_small_pictures_are_enlarged_to_what_the_general_networks_know(speed, side):
    """From nothing, sprites of 32 pixels had samples of noise in five minutes; the general generator knew their tokens at once."""
    small = Look("sprites", 1000, 900, ("all",), side, False)
    plan = plan_start(small, 300, start.general_weights)
    assert (plan.side, plan.generator_from) == (64, "pictures64")
    said = "\n".join(lines(plan, small))
    assert "64x64 pixels" in said and "enlarged: pictures64 knows pictures of this size" in said
    stages = (replace(stage, seconds=130.0) for stage in (plan.tokenizer, plan.generator))
    spent = replace(plan, **dict(zip(("tokenizer", "generator"), stages, strict=True)))
    assert "all of it takes about 6 minutes." in "\n".join(lines(spent, small))  # two are for samples and scores
    assert plan_start(replace(small, count=60_000, train=54_000), 36_000, start.general_weights).side == 32
    half_an_hour = "\n".join(
        lines(plan_start(replace(small, side=64), 1800, start.general_weights), replace(small, side=64))
    )
    assert "enlarged" not in half_an_hour and "takes about" not in half_an_hour


def test_small_and_grey_folders_get_what_they_need(speed):
    few = Look("few", 50, 45, ("all",), 300, True)
    plan = planned(few, 30)
    assert plan.codes == codes_for(45 * plan.tokens) == 128
    config = plan.tokenizer_config()
    assert (config.data.channels, config.tokenizer.in_channels, config.tokenizer.quantizer.codebook_size) == (1, 1, 128)
    # No picture is seen more than two hundred times, or about that.
    assert plan.generator.steps * plan.generator_config().batch_size <= 210 * 45
    assert plan.views == ("60-crops",)
    enough = planned(COLOUR, 60)
    assert enough.views == ("22-crops",) and enough.generator.steps * enough.generator_config().batch_size >= 22 * 900
    short = planned(COLOUR, 15)  # of no picture more crops are made than the generator sees
    assert (
        short.views == ("20-crops",)
        and 19 * 900 < short.generator.steps * short.generator_config().batch_size <= 20 * 900
    )
    hasty = planned(replace(few, side=40), 1)
    assert hasty.generator.steps * hasty.generator_config().batch_size == 1920 and hasty.views == ("43-crops",)
    assert planned(Look("many", 9000, 8000, ("all",), 300, False), 15).views == ("center",)


def test_pictures_that_share_a_shape_keep_it(speed):
    assert shared_ratio([(300, 200)] * 9 + [(100, 100)]) == 1.5
    assert shared_ratio([(300, 200), (200, 300)] * 5) == shared_ratio([(110, 100)] * 9) == 1.0
    wide = Look("wide", 2000, 1800, ("all",), 300, False, 1.5)
    config = planned(wide, 15).tokenizer_config()
    assert config.data.sides == config.tokenizer.sides == (56, 80)
    assert config.tokenizer.layout.sides == (7, 10)  # about as many tokens as a square's 64
    assert "wide (1.50 to 1)" in wide.sentence and "wide" not in COLOUR.sentence


def test_a_plan_is_kept(speed, photo_folder, tmp_path, monkeypatch):
    first, _ = start.prepare_start(str(photo_folder), 1800, tmp_path, print)
    monkeypatch.setattr(start_plan.rate, "tokenizer_step_seconds", lambda config: 1e-3)
    assert start.prepare_start(str(photo_folder), 1800, tmp_path, print)[0] == first
    file = plan_file(tmp_path, str(photo_folder), 1800)
    assert StartPlan.from_json(json.loads(file.read_text())) == first
    stored = first.to_json()
    for damaged in (
        {},
        [],
        stored | {"seconds": "x"},
        stored | {"views": []},
        stored | {"tokenizer": stored["tokenizer"] | {"seconds": None}},
    ):
        file.write_text(json.dumps(damaged))
        with pytest.raises(UserError, match=r"plan .*plan\.json: damaged.*(root|seconds|views|list).* delete the file"):
            start.prepare_start(str(photo_folder), 1800, tmp_path, print)


def test_a_plan_says_that_it_was_made_before_and_a_folder_that_grew_gets_another(speed, photo_folder, tmp_path):
    photos, said = tmp_path / "photos", []
    shutil.copytree(photo_folder, photos)
    first, _ = start.prepare_start(str(photos), 900, tmp_path, print)
    start.prepare_start(str(photos), 900, tmp_path, said.append)
    assert "This plan was made on" in said[-1] and str(plan_file(tmp_path, str(photos), 900)) in said[-1]
    shutil.copytree(photos / "waves", photos / "more waves")
    more, look = start.prepare_start(str(photos), 900, tmp_path, said.append)
    assert (first.pictures, more.pictures, look.count) == (90, 120, 120)
    assert any("was for 90 pictures, and there are 120 now" in line for line in said)


def test_of_two_starts_at_once_the_second_takes_the_first_ones_plan(speed, photo_folder, tmp_path, monkeypatch):
    """Each timed a plan of its own, the second replaced the first one's file, and one of the two trainings was never gone on with."""
    both, made, plan_start = threading.Barrier(2), [], start.plan_start

    def planned(*given):
        made.append(plan_start(*given))
        return made[-1]

    def begun(place):
        both.wait()
        return start.prepare_start(str(photo_folder), 900, tmp_path, lambda line: None)[0]

    monkeypatch.setattr(start, "plan_start", planned)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(begun, range(2))
    assert first == second and len(made) == 1


def test_a_folder_is_itself_wherever_it_is_called_from(speed, photo_folder, tmp_path, monkeypatch):
    """Of two folders of one name, called as that from where they lie, the second got the first one's plan."""
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        shutil.copytree(photo_folder, tmp_path / place / "photos")
        monkeypatch.chdir(tmp_path / place)
        plan, _ = start.prepare_start("photos", 900, tmp_path / "runs", print)
        assert plan.place == str(tmp_path / place / "photos") == plan.tokenizer_config().data.root
        assert plan.root == "photos"  # as it is typed in the commands
    assert len(list((tmp_path / "runs").glob("start-photos*/plan.json"))) == 2
    (tmp_path / "two" / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "two" / "deeper")
    again, _ = start.prepare_start("../photos", 900, tmp_path / "runs", print)
    assert (again.root, again.place) == ("../photos", plan.place)  # the same plan, called as it is called now


def test_a_plan_that_fails_leaves_nothing_behind(photo_folder, tmp_path, monkeypatch):
    def fails(*given):
        raise UserError("too small")

    monkeypatch.setattr(start, "plan_start", fails)
    with pytest.raises(UserError, match="too small"):
        start.prepare_start(str(photo_folder), 900, tmp_path / "runs", print)
    assert not (tmp_path / "runs").exists()


def test_a_broken_picture_is_named_and_left_out(speed, photo_folder, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(photo_folder, photos)
    (photos / "waves" / "00.png").write_bytes(b"no picture")
    plan, look = start.prepare_start(str(photos), 900, tmp_path, print)
    text = "\n".join(lines(plan, look))
    assert look.count == 89 and "1 more file cannot be read and is left out: waves/00.png (" in text
    assert "--set data.unreadable_images=skip" in text and "ignored" not in text
    assert len(open_split(plan.tokenizer_config().data, "train")) == look.train


def test_copies_are_told_before_training(photo_folder, tmp_path):
    folder = tmp_path / "copies"
    shutil.copytree(photo_folder, folder)
    first = next(path for path in sorted(folder.rglob("*")) if path.is_file())
    for number in range(30):
        shutil.copy(first, first.with_name(f"copy-{number}{first.suffix}"))
    said = " ".join(look_at(str(folder)).remarks)
    assert "30 images are byte-for-byte copies of others." in said and "in train too, byte for byte" in said


def test_a_plan_says_what_to_expect_and_does_not_mirror_letters(speed, photo_folder, tmp_path):
    plan, look = start.prepare_start(str(photo_folder), 1800.0, tmp_path, lambda line: None)
    said = "\n".join(lines(plan, look))
    assert "What to expect: " in said and plan.tokenizer_config().data.horizontal_flip
    other, _ = start.prepare_start(str(photo_folder), 1800.0, tmp_path, lambda line: None, mirror=False)
    assert not other.tokenizer_config().data.horizontal_flip
    again, _ = start.prepare_start(str(photo_folder), 1800.0, tmp_path, lambda line: None)
    assert again == plan  # each is kept by itself


def test_a_plan_is_told_by_what_the_general_tokenizer_makes_of_the_pictures(speed, photo_folder, tmp_path):
    plan, look = start.prepare_start(str(photo_folder), 1800.0, tmp_path, lambda line: None)
    found = plan.as_it_comes
    assert found is not None and found.count == len(open_split(plan.tokenizer_config().data, "val"))
    # The same as its own first validation would measure.
    tokenizer = vistok.load_tokenizer("pictures64")
    data = plan.tokenizer_config().data
    images = torch.cat([batch["images"] for batch in eval_images(open_split(data, "val"), data, 50)])
    made = tokenizer.decode(tokenizer.encode(images))
    assert found.psnr == pytest.approx(float(psnr_per_image(to_uint8(made), to_uint8(images)).mean()), abs=0.01)
    said = "\n".join(lines(plan, look))
    assert f"{found.count} held-out pictures back with a PSNR of {found.psnr:.1f} dB" in said
    unlike = replace(plan, as_it_comes=AsItComes(9, 10.0, 0.5))
    assert "unlike what it knows" in lines(unlike, look)[-1]
    earlier = replace(plan, as_it_comes=None)  # a plan of an earlier version
    assert lines(earlier, look)[-1].startswith("What to expect: on ten other folders, training the decoder")
    assert "from nothing" in what_to_expect(None, None, False, 64, True)
    assert "from nothing" not in what_to_expect("pictures64", None, False, 64, True)


def test_split_folders_are_no_classes_that_hold_others(photo_folder, tmp_path):
    for split in ("train", "val", "test"):
        shutil.copytree(photo_folder, tmp_path / "split" / split)
    look = look_at(str(tmp_path / "split"))
    assert look.classes == ("circles", "stripes", "waves")
    assert not any("inside a class" in remark for remark in look.remarks)


def test_a_plan_of_an_earlier_version_is_completed(speed, photo_folder, tmp_path):
    plan, _ = start.prepare_start(str(photo_folder), 1800.0, tmp_path, lambda line: None)
    file = plan_file(tmp_path, str(photo_folder), 1800.0)
    stored = json.loads(file.read_text())
    del stored["classes"], stored["as_it_comes"]
    file.write_text(json.dumps(stored))
    assert start.prepare_start(str(photo_folder), 1800.0, tmp_path, lambda line: None)[0] == plan


def test_a_plan_says_why_large_pictures_become_small(speed):
    large, small = replace(COLOUR, side=1080), replace(COLOUR, side=100)
    said = ["\n".join(lines(plan_start(look, 900, start.general_weights), look)) for look in (large, small)]
    assert ["Larger ones are planned only from 5,000 pictures" in text for text in said] == [True, False]


def test_folders_inside_classes_are_told_of(photo_folder, tmp_path):
    deep = tmp_path / "deep"
    for number, picture in enumerate(sorted(photo_folder.rglob("*.png"))[:60]):
        place = deep / ("animals/cats", "animals/dogs", "things/cars/red", "things")[number % 4]
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, place / f"{number}.png")
    look = look_at(str(deep))
    assert look.classes == ("animals", "things")
    assert (
        "Folders inside a class are of one class each: animals (cats, dogs), things (cars); to tell them apart, move them up."
        in look.remarks
    )


def test_a_plan_says_where_more_time_brings_nothing(speed):
    long = plan_start(COLOUR, 36_000, start.general_weights)
    assert "so few pictures would be learned by heart" in "\n".join(lines(long, COLOUR))
    assert "learned by heart" not in "\n".join(lines(plan_start(COLOUR, 60, start.general_weights), COLOUR))


def test_files_that_are_no_pictures_are_told(photo_folder, tmp_path):
    photos = tmp_path / "photos"
    shutil.copytree(photo_folder, photos)
    for name in ("notes.txt", "waves/film.mp4", "waves/second.mp4"):
        (photos / name).write_bytes(b"no picture")
    assert "Not pictures by their names, so ignored 3 files: 2 .mp4, 1 .txt." in look_at(str(photos)).remarks


def test_classes_that_lie_deeper_are_pointed_out(tmp_path):
    for name in ("one", "two"):
        (tmp_path / "outer" / "inner" / name).mkdir(parents=True)
        for number in range(4):
            picture = Image.new("RGB", (40, 40), (number, 0, len(name)))
            picture.save(tmp_path / "outer" / "inner" / name / f"{number}.png")
    look = look_at(str(tmp_path))
    assert len(look.classes) == 1 and look.deeper == str(tmp_path / "outer" / "inner")
    assert any("outer/inner: give that one" in remark for remark in look.remarks)
    within = look_at(look.deeper)
    assert len(within.classes) == 2 and within.deeper == ""
    assert look_at(str(tmp_path / "outer" / "inner" / "one")).deeper == ""


def test_few_pictures_and_sides_that_are_cut_off_are_pointed_out(speed):
    few, many = Look("few", 5, 3, ("all",), 40, False, 3.0), replace(COLOUR, side=40)
    text = "\n".join(lines(planned(few, 15), few))
    assert "3 pictures to learn from (the others are held out) are few" in text
    assert "the middle 61% of each is used" in text
    text = "\n".join(lines(planned(many, 15), many))
    assert "to learn from" not in text and "middle" not in text
    slow = replace(planned(many, 15), seconds=60.0)
    assert "At this machine's speed all of it takes about" in "\n".join(lines(slow, many))


def test_only_sizes_that_come_into_question_are_timed(monkeypatch):
    """Timing is slowest where there is least time."""
    timed = []
    monkeypatch.setattr(
        start_plan.rate, "tokenizer_step_seconds", lambda config: timed.append(config.tokenizer.image_size) or 0.2
    )
    monkeypatch.setattr(start_plan, "_generator_step_seconds", lambda run, space, classes: 1.0)
    monkeypatch.setattr(start_plan, "_bfloat16_step_seconds", lambda run, space, classes: 1.0)
    assert plan_start(COLOUR, 180, start.general_weights).side == 64
    assert timed == [64]


@pytest.mark.parametrize(("factor", "taken"), [(0.5, True), (0.9, False), (math.inf, False)])
def test_generators_are_trained_in_bfloat16_where_that_pays(speed, monkeypatch, factor, taken):
    plain = planned(COLOUR, 30)
    monkeypatch.setattr(
        start_plan, "_bfloat16_step_seconds", lambda run, space, classes: factor * space.layout.positions / 100
    )
    plan = planned(COLOUR, 30)
    assert plan.generator_config().precision == ("bfloat16" if taken else "float32")
    assert plan.generator_steps_paid == pytest.approx(plain.generator_steps_paid * (2 if taken else 1), rel=0.05)
    assert plan.generator.seconds <= plain.generator.seconds * 1.01 and plan.tokenizer == plain.tokenizer


def test_bfloat16_is_not_tried_where_it_would_be_imitated(monkeypatch):
    monkeypatch.setattr(start_plan, "has_bfloat16", lambda device: False)
    monkeypatch.setattr(start_plan.rate, "generator_step_seconds", lambda *given: pytest.fail("timed"))
    assert (
        start_plan._bfloat16_step_seconds(
            find_recipe("images64_ar_small"), Tokens(layout=Grid(height=4, width=4), codebook_size=64), 3
        )
        == math.inf
    )


@pytest.mark.parametrize(("wanting", "said"), [(0, False), (1, False), (2, True), (4, True)])
def test_a_busy_machine_is_what_it_is_now(monkeypatch, wanting, said):
    """The load average remembers a minute: right after other work, an idle machine was called busy."""
    monkeypatch.setattr(start_plan, "others", lambda: wanting)
    monkeypatch.setattr(start_plan.os, "cpu_count", lambda: 4)
    found = start_plan.busy()
    assert (found is not None) == said and (
        not said or f"{wanting} threads of other programs want its 4 processors" in found
    )


def test_a_step_is_timed_at_the_precision_of_the_run(monkeypatch):
    """Steps of bfloat16 runs used to be timed in float32, so that --dry-run promised half as much again or more."""
    config = find_recipe("debug_vq").replace(precision="bfloat16")
    objective = build_objective(config, torch.device("cpu"))
    (phase,), cast = objective.phases(Scale(config.batch_size, 1, 1, (), 1000), ALONE), []
    seen = replace(
        phase, loss=lambda micro, step: cast.append(torch.is_autocast_enabled("cpu")) or phase.loss(micro, step)
    )
    monkeypatch.setattr(objective, "phases", lambda scale, world: [seen])
    step_time.step_seconds(config, plan_tokenizer(config, 1), lambda device: objective)
    assert cast and all(cast)


def test_a_slow_machine_is_timed_by_two_steps(monkeypatch):
    objective = build_objective(find_recipe("debug_vq"), torch.device("cpu"))
    took = []
    monkeypatch.setattr(
        objective, "example", lambda batch, device: took.append(batch) or {"images": torch.zeros(batch, 1, 28, 28)}
    )
    monkeypatch.setattr(step_time, "PATIENCE", 0.0)
    clock = iter(range(100))
    monkeypatch.setattr(step_time.time, "perf_counter", lambda: 3.0 ** next(clock))
    config = find_recipe("debug_vq")
    monkeypatch.setattr(step_time, "MOST_FLOPS", 0.0)  # of a batch, as few images as there can be
    seconds = step_time.step_seconds(config, plan_tokenizer(config, 1), lambda device: objective, at_least=1)
    assert took == [2] and seconds == (27 - 9) * config.batch_size / 2


def test_a_folder_with_one_picture_held_out_gets_its_sheet_without_scores():
    held_out = SimpleNamespace(data=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start, "open_split", lambda data, split: range({"train": 3, "val": 1}[split]))
        assert "at least 2 pictures that are held out, found 1" in start._unscored(held_out, object())
    assert "pip install" in start._unscored(held_out, None)


def test_the_plan_names_commands_that_can_be_typed(speed, photo_folder, tmp_path):
    done = CliRunner().invoke(app, ["start", str(photo_folder), "--runs", str(tmp_path), "--for", "20m"])
    assert done.exit_code == 0, done.output
    commands = [line.strip() for line in done.output.splitlines() if line.strip().startswith("vistok ")]
    assert [command.split()[1] for command in commands] == ["train", "cache", "train", "sample", "evaluate", "evaluate"]
    assert "90 colour pictures in 3 classes" in done.output and "--go 20m" in done.output


@pytest.mark.slow
def test_go_trains_draws_and_scores(photo_folder, tmp_path, quiet):
    small = (
        "tokenizer.encoder.channels=8", "tokenizer.decoder.channels=8", "tokenizer.latent_channels=8", "batch_size=4",
        "tokenizer.quantizer.start_after=2", "tokenizer.quantizer.codebook_size=32",
        *QUICK,
    )  # fmt: skip
    generator = ("generator.width=24", "generator.depth=1", "generator.num_heads=2", "batch_size=8")
    plan = StartPlan(
        str(photo_folder), 32, 64, 32, Stage("images32_crt", small, 6, 1.0),
        Stage("images64_ar", (*generator, *QUICK), 4, 1.0), None, 60.0, views=("3-crops",),
    )  # fmt: skip
    execution = plan.generator_config().execution
    assert execution.evaluate_every == execution.log_every == 1  # its alarms see the whole of a short run
    done = start.run_start(plan, tmp_path, quiet)
    with Image.open(done["overview"]) as overview:
        columns = overview.width
    assert columns > 300
    assert LatentCache(done["tokenizer"] / "tokens" / "train").num_views == 4
    assert done["generator_scores"]["gfmd"]["protocol"]["extractor"] == "efficientnet-lite0"
    # Nothing is trained again, also where an earlier version cached other views of the held-out pictures.
    shutil.rmtree(done["tokenizer"] / "tokens" / "val")
    cache_tokens(done["tokenizer"], "val", quiet, views=("ten-crop",))
    assert start.run_start(plan, tmp_path, quiet)["tokenizer"] == done["tokenizer"]


def test_a_start_that_is_strict_ends_with_its_alarms(speed, photo_folder, tmp_path, monkeypatch):
    done = {"tokenizer": tmp_path / "t", "generator": tmp_path / "g", "warnings": []}
    monkeypatch.setattr("vistok.overview.verdict.verdict", lambda record: f"{record.path.name} went")
    monkeypatch.setattr("vistok.overview.record.RunRecord", lambda path: SimpleNamespace(path=path))
    memorised = Alarm("memorises", 2.0, "it memorises", "Give it more images")
    monkeypatch.setattr(start, "run_start", lambda *_: done)
    monkeypatch.setattr("vistok.verbs.show.start_lines", lambda _: ["done"])
    monkeypatch.setattr(
        "vistok.runs.health.gate.alarms_of", lambda run: [memorised] if run == done["generator"] else []
    )
    words = ["start", str(photo_folder), "--runs", str(tmp_path), "--go", "20m"]
    plain, strict = CliRunner().invoke(app, words), CliRunner().invoke(app, [*words, "--strict"])
    assert (plain.exit_code, strict.exit_code) == (0, 3) and "generator: g went" in strict.output
    assert "Its command: vistok train generator" in strict.output
    monkeypatch.setattr("vistok.runs.health.gate.alarms_of", lambda run: [])
    assert CliRunner().invoke(app, [*words, "--strict"]).exit_code == 0
    done["warnings"] = ["40 of 40 samples are the same picture"]
    assert CliRunner().invoke(app, [*words, "--strict"]).exit_code == 3


def test_a_start_that_stops_at_a_dead_stage_names_its_command(speed, photo_folder, tmp_path, monkeypatch):
    words = ["start", str(photo_folder), "--runs", str(tmp_path), "--go", "20m"]
    for kind, wanted in (
        ("tokenizer", "tokenizer images64_vq --data"),
        ("generator", "images64_ar_small --tokenizer T "),
    ):

        def dies(*_, kind=kind):
            raise DeadRun(f"{kind} ended with the alarm blind", kind[0].upper(), kind, "T")

        monkeypatch.setattr(start, "run_start", dies)
        plain, strict = CliRunner().invoke(app, words), CliRunner().invoke(app, [*words, "--strict"])
        assert (plain.exit_code, strict.exit_code) == (1, 3)
        assert f"vistok: {kind} ended with the alarm blind" in plain.output
        (command,) = [line for line in plain.output.splitlines() if "the advice is for" in line]
        assert wanted in command and f"--runs {tmp_path}" in command
        assert ("without --init-from" in plain.output) == (kind == "tokenizer")


def test_features_are_those_of_the_original_network():
    """Reference: efficientnet_lite_pytorch 0.1.0 with the same weights, on this picture."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 224), torch.linspace(0, 1, 224), indexing="ij")
    image = torch.stack([x, y, x * y])[None] * 2 - 1
    network = ImageNetFeatures(torch.device("cpu")).network
    found = network.features(image)[0]
    unfused = load_efficientnet_lite0().features(image)[0]
    torch.testing.assert_close(found, unfused, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found[2:4], torch.tensor([0.09610278, 0.08243982]), rtol=1e-3, atol=1e-4)
    assert int(found.argmax()) == 113 and abs(float(found.max()) - 4.3360) < 1e-2


def test_colour_pictures_begin_with_the_shipped_tokenizer(speed, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    plan = plan_start(COLOUR, 900, start.general_weights)
    config = plan.tokenizer_config()
    assert (plan.side, plan.init_from, config.init_from) == (64, "pictures64", "pictures64")
    initial = initial_weights(config)
    networks = build_objective(config, torch.device("cpu"))
    load_initial(networks.tokenizer, initial)
    assert initial.digest == read_model(shipped_network("pictures64", "tokenizer"), "tokenizer")[1]["digest"]
    flat = torch.tensor([0.9, -0.6, 0.2])[:, None, None].expand(2, 3, 64, 64).contiguous()
    with torch.no_grad():
        error = (networks.tokenizer.eval()(flat).reconstruction - flat).abs().max()
    assert float(error) < 0.35  # it is trained, and its codes are there
    # So few know the general tokens best, however long: of larger pictures nothing is known but these few.
    assert plan_start(COLOUR, 65580, start.general_weights).side == 64
    larger = plan_start(replace(COLOUR, count=8000, train=6400), 6558, start.general_weights)
    assert (larger.init_from, larger.generator_from) == ("pictures64", None)
    larger = larger.tokenizer_config()
    assert (larger.data.image_size, larger.tokenizer.image_size, larger.tokenizer.num_tokens) == (128, 128, 256)
    grey = plan_start(Look("grey", 1000, 900, ("all",), 300, True), 900, start.general_weights)
    assert (grey.init_from, grey.tokenizer_config().data.channels) == ("pictures64", 3)


def test_few_pictures_get_the_general_generator_of_the_general_tokens(speed, monkeypatch, tmp_path):
    """Its tokens must stay as they are: a generator knows what they mean."""
    monkeypatch.chdir(tmp_path)
    plan = plan_start(COLOUR, 900, start.general_weights)
    assert plan.generator_from == "pictures64" and plan.tokenizer_config().trains == "decoder"
    generator = plan.generator_config()
    stored = read_model(shipped_network("pictures64", "generator"), "generator")[1]
    assert generator.generator.width == stored["config"]["width"] and generator.generator.dropout == 0.1
    tokenizer = read_model(shipped_network("pictures64", "tokenizer"), "tokenizer")[1]
    assert stored["tokenizer"]["digest"] == tokenizer["digest"]
    words = [shlex.join(command) for command in plan.commands("T", "G")]
    assert "--init-from pictures64" in words[0] and "trains=" in words[0] and "--init-from pictures64" in words[2]
    # What --go does, too.
    guided = " --choose-guidance 1,1.5,2,3 --search-count 300"
    assert words[-1] == f"vistok evaluate generator G --split train --evaluator imagenet{guided}"
    assert not any("--runs" in word for word in words)
    elsewhere = [shlex.join(command) for command in plan.commands("T", "G", Path("else where"))]
    assert [word.endswith("--runs 'else where'") for word in elsewhere] == [True, False, True, False, False, False]
    one = plan_start(replace(COLOUR, classes=("all",)), 900, start.general_weights)
    assert "guidance" not in shlex.join(one.commands("T", "G")[-1])
    text = lines(plan, COLOUR)
    assert text[text.index(f"   {words[-1].replace(' G ', ' runs/images64-ar-small-XXXXXXXXXX ')}") - 1].endswith(
        "pip install 'vistok[imagenet]'"
    )
    # With many pictures and much time, tokens of one's own are worth learning.
    many = Look("many", 90_000, 80_000, ("all",), 64, False)
    assert plan_start(many, 900, start.general_weights).generator_from == "pictures64"
    longer = plan_start(many, 7200, start.general_weights)
    assert longer.generator_from is None and longer.tokenizer_config().trains == "all"
    assert longer.generator.recipe == "images64_ar" and planned(many, 9).generator.recipe == "images64_ar_small"


def test_a_file_comes_before_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures64").mkdir()
    with pytest.raises(UserError):
        read_initial("pictures64", "tokenizer")
