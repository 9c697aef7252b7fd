"""The verbs, from Python: sampling, scoring, own images, shipped weights, the demo."""

import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vistok
from vistok.config import override
from vistok.data.config import DataConfig
from vistok.data.images.open import open_split
from vistok.data.images.transforms import to_uint8
from vistok.data.loader import eval_images
from vistok.engine.weights import load_weights, save_weights
from vistok.errors import UserError
from vistok.generator.autoregressive.config import AutoregressiveSampling
from vistok.metrics.frechet import frechet_distance
from vistok.metrics.moments import Moments
from vistok.nn.classifier import share_of_dead_features
from vistok.recipes import all_recipes, find_recipe
from vistok.runs.drawing import balanced_labels, make_sampler, sample_batches
from vistok.runs.frozen_networks import shipped_classifier
from vistok.scoring.evaluate_generator import (
    Against,
    Drawing,
    _reconstructed,
    evaluate_generator,
    load_stage2,
)
from vistok.scoring.evaluate_likelihood import caches_of, evaluate_likelihood
from vistok.scoring.evaluate_tokenizer import evaluate_tokenizer
from vistok.scoring.evaluators import choose_evaluator, require_unseen
from vistok.scoring.guidance import choose_guidance
from vistok.tokenizer import given
from vistok.verbs.cache_latents import cache_tokens
from vistok.verbs.class_choice import chosen_labels
from vistok.verbs.compare import comparison
from vistok.verbs.sample_files import samples_place, write_samples
from vistok.verbs.sample_sheet import Layout, layout_of
from vistok.verbs.show import recipe_json


def test_from_python_in_few_lines(toy_runs):
    tokenizer, generator = vistok.load_tokenizer(toy_runs[0]), vistok.load_generator(toy_runs[2])
    images = torch.rand(3, 1, 28, 28) * 2 - 1
    tokens = tokenizer.encode(images)
    assert tokens.shape == (3, 49) and tokens.max() < tokenizer.space.codebook_size == 64
    assert tokenizer.decode(tokens).shape == images.shape
    drawn = generator.sample(torch.tensor([0, 9]))
    assert tokenizer.decode(drawn).shape == (2, 1, 28, 28)
    assert generator.info.class_names[9] == "Ankle boot"
    raw = vistok.load_tokenizer(toy_runs[0], weights="raw")
    assert raw.info.digest != tokenizer.info.digest
    exported = vistok.load_tokenizer(toy_runs[0] / "export" / "model.safetensors")
    assert torch.equal(exported.encode(images), tokens)


def test_loading_the_wrong_thing(toy_runs, tmp_path):
    with pytest.raises(UserError, match="holds a generator, not a tokenizer"):
        vistok.load_tokenizer(toy_runs[2])
    with pytest.raises(UserError, match="neither a path nor part of a run's name"):
        vistok.load_tokenizer(tmp_path / "nothing")
    with pytest.raises(UserError, match="not a run directory"):
        vistok.load_tokenizer(tmp_path)
    with pytest.raises(AttributeError, match="load_generator"):
        vistok.load_everything  # noqa: B018


def test_encode_and_decode_check_their_input(toy_runs):
    tokenizer = vistok.load_tokenizer(toy_runs[0])
    with pytest.raises(UserError, match="multiples of 4"):
        tokenizer.encode(torch.zeros(1, 1, 30, 28))
    with pytest.raises(UserError, match="not finite"):
        tokenizer.encode(torch.full((1, 1, 28, 28), float("nan")))
    with pytest.raises(UserError, match=r"must lie in \[-1, 1\], found 0\.\.\.255"):
        tokenizer.encode(torch.linspace(0, 255, 784).view(1, 1, 28, 28))
    with pytest.raises(UserError, match=r"0\.\.\.63, found 64\.\.\.64"):
        tokenizer.decode(torch.full((1, 49), 64))
    with pytest.raises(UserError, match="49 positions"):
        tokenizer.decode(torch.zeros(1, 48, dtype=torch.int64))


def test_the_tokenizer_runs_at_other_sizes(toy_runs):
    tokenizer = vistok.load_tokenizer(toy_runs[0])
    tokens = tokenizer.encode(torch.zeros(1, 1, 40, 32))
    assert tokens.shape == (1, 80)
    from vistok.space import grid

    assert tokenizer.decode(tokens, grid(10, 8)).shape == (1, 1, 40, 32)


def test_large_batches_are_encoded_in_parts(toy_runs, monkeypatch):
    """Memory does not grow with the batch; rounding of convolutions may differ by batch size."""
    tokenizer = vistok.load_tokenizer(toy_runs[0])
    images = torch.rand(5, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = tokenizer.encode(images)
    for name in ("PIXELS", "CPU_PIXELS"):
        monkeypatch.setattr(given, name, 2 * 28 * 28)
    seen = []
    tokenizer.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    parts = tokenizer.encode(images)
    assert seen == [2, 2, 1] and float((parts == whole).float().mean()) > 0.99
    torch.testing.assert_close(tokenizer.decode(whole), torch.cat([tokenizer.decode(t[None]) for t in whole]))


def test_samples_with_a_draft_are_the_same(toy_runs, tmp_path):
    generator = vistok.load_generator(toy_runs[2])
    labels, sampling = torch.arange(30) % 10, AutoregressiveSampling(guidance_scale=1.5)
    plain = generator.sample(labels, sampling=sampling)
    sampler = make_sampler(generator, sampling, vistok.load_generator(toy_runs[2], weights="raw"), lookahead=3)
    assert torch.equal(sampler(labels, torch.arange(30)), plain)
    assert 0.3 < sampler.acceptance.rate <= 1
    other = vistok.load_generator(toy_runs[2])
    other.info = other.info.replace(tokenizer=other.info.tokenizer.replace(digest="f" * 64))
    with pytest.raises(UserError, match="another tokenizer.*train a draft"):
        make_sampler(generator, sampling, other)


def test_cache_holds_what_encode_gives(toy_runs, fashion_root, quiet):
    tokenizer_path, caches, _ = toy_runs
    tokenizer = vistok.load_tokenizer(tokenizer_path)
    data = DataConfig(root=str(fashion_root), max_images=400)
    batch = next(eval_images(open_split(data, "test"), data, 50))
    found = caches["test"].batch(range(50))
    assert torch.equal(found["latents"], tokenizer.encode(batch["images"]))
    assert torch.equal(found["labels"], batch["labels"])
    again = cache_tokens(tokenizer_path, "test", quiet)
    assert again.folder == caches["test"].folder
    with pytest.raises(UserError, match="views"):
        cache_tokens(tokenizer_path, "test", quiet, views=("center", "flip"))


def test_a_cache_stopped_after_its_last_batch_is_finished(toy_runs, tmp_path, quiet, monkeypatch):
    """400 images are no multiple of the batch: the last one is short."""
    from vistok.data.latents.writer import LatentCacheWriter

    def die(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LatentCacheWriter, "finish", die)
        with pytest.raises(KeyboardInterrupt):
            cache_tokens(toy_runs[0], "test", quiet, out=tmp_path / "c")
    cache = cache_tokens(toy_runs[0], "test", quiet, out=tmp_path / "c")
    np.testing.assert_array_equal(cache.latents, toy_runs[1]["test"].latents)


def test_a_cache_with_several_views_is_taken_as_it_is(toy_runs, tmp_path, quiet):
    made = cache_tokens(toy_runs[0], "val", quiet, out=tmp_path / "c", views=("center", "flip"))
    assert cache_tokens(toy_runs[0], "val", quiet, out=tmp_path / "c").manifest == made.manifest
    assert made.num_views == 2 and made.latents.shape == (800, 49)


def test_tokens_and_samples_may_be_trained_on(toy_runs):
    tokenizer, generator = vistok.load_tokenizer(toy_runs[0]), vistok.load_generator(toy_runs[2])
    tokens = tokenizer.encode(torch.rand(2, 1, 28, 28) * 2 - 1)
    labels = torch.tensor([0, 1])
    for grids in (tokens, generator.sample(labels)):
        generator.nats(grids, labels).mean().backward()


def test_generator_refuses_tokens_of_another_tokenizer(toy_runs, tmp_path, fashion_root, quiet):
    from vistok.verbs import train_generator, train_tokenizer

    config = override(find_recipe("debug_vq"), [f'data.root="{fashion_root}"', "data.max_images=400", "length=1 steps"])
    other = train_tokenizer.prepare(config, tmp_path).train(quiet).path
    cache = cache_tokens(other, "val", quiet)
    with pytest.raises(UserError, match="tokenizer_digest"):
        train_generator.prepare(find_recipe("debug_ar"), toy_runs[1]["train"], cache, toy_runs[0], tmp_path)
    generator = vistok.load_generator(toy_runs[2])
    from vistok.runs.load import load_tokenizer_of

    with pytest.raises(UserError, match="not the one whose tokens"):
        load_tokenizer_of(generator, other)
    with pytest.raises(UserError, match="--tokenizer"):
        load_tokenizer_of(generator, tmp_path / "gone")


def test_samples_that_are_not_finite_are_no_black_pictures(toy_runs, monkeypatch):
    """They were written and scored, with one picture of 0 for all."""
    tokenizer, generator = vistok.load_tokenizer(toy_runs[0]), vistok.load_generator(toy_runs[2])
    decode = tokenizer.decode
    monkeypatch.setattr(
        tokenizer, "decode", lambda tokens: decode(tokens) / torch.tensor([1, 0, 1])[:, None, None, None]
    )
    with pytest.raises(
        UserError, match=r"1 of 3 samples, as decoded, hold values that are not finite .*\(--guidance\)"
    ):
        list(sample_batches(generator.sampler(AutoregressiveSampling()), tokenizer, balanced_labels(3, 10)))
    vectors = torch.tensor([0.0, math.inf, math.nan])[:, None, None]
    with pytest.raises(UserError, match="2 of 3 samples, as drawn, hold values"):
        list(sample_batches(lambda labels, ids: vectors, tokenizer, balanced_labels(3, 10)))
    with pytest.raises(UserError, match="guidance_scale: Input should be less than or equal to 1000000"):
        AutoregressiveSampling(guidance_scale=1e300)


def test_samples_and_files(toy_runs, tmp_path):
    tokenizer, generator = vistok.load_tokenizer(toy_runs[0]), vistok.load_generator(toy_runs[2])
    labels = balanced_labels(23, 10)
    whole = torch.cat(list(sample_batches(generator.sampler(AutoregressiveSampling(seed=1)), tokenizer, labels)))
    parts = torch.cat(
        list(sample_batches(generator.sampler(AutoregressiveSampling(seed=1)), tokenizer, labels, batch_size=7))
    )
    assert whole.shape == (23, 1, 28, 28) and whole.dtype == torch.uint8
    assert (whole != parts).float().mean() < 1e-3
    grid = write_samples([whole], labels, tmp_path / "grid.png", "grid", Layout(23, 10))
    with Image.open(grid) as picture:
        assert picture.size == (3 * (10 * 30 - 2), 3 * (3 * 30 - 2))
    folder = write_samples([whole[:9], whole[9:]], labels, tmp_path / "single", "png", Layout(23, 10))
    pictures = sorted(folder.glob("*.png"))
    assert len(pictures) == 23 and pictures[12].name == "000012-class002.png"
    with Image.open(pictures[12]) as picture:
        assert (np.asarray(picture)[..., 0] == whole[12, 0].numpy()).all()
    with np.load(write_samples([whole[:9], whole[9:]], labels, tmp_path / "adm.npz", "npz", Layout(23, 10))) as arrays:
        assert arrays["arr_0"].shape == (23, 28, 28, 3) and arrays["arr_0"].dtype == np.uint8
        assert (arrays["arr_0"][..., 0] == whole[:, 0].numpy()).all() and (arrays["arr_1"] == labels.numpy()).all()
    assert not list(tmp_path.glob("adm.npz.*"))  # nothing is left beside it


@pytest.mark.parametrize("name", ["fashion-crt", "fashion-baseline"])
def test_shipped_pairs_draw_at_once_and_say_what_they_are(name, tmp_path, monkeypatch):
    """By the command, in an empty folder: nothing was trained, and the tokenizer is found beside the generator."""
    from typer.testing import CliRunner

    from vistok.cli import app
    from vistok.runs.load import load_generator, load_tokenizer_of
    from vistok.runs.shipped import shipped_network

    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["sample", "--from", name, "--count", "10", "--out", "drawn", "--format", "npz"])
    assert result.exit_code == 0, result.output
    with np.load(tmp_path / "drawn.npz") as drawn:
        assert drawn["arr_0"].shape == (10, 28, 28, 3) and drawn["arr_0"].std() > 30  # pictures, not grey
    generator = load_generator(shipped_network(name, "generator"))
    for info in (generator.info, load_tokenizer_of(generator).info):
        assert info.made_by["command"] == "vistok study run fashion_study" and info.scores["protocols"] is not None
    assert 0.5 < generator.info.scores["gfmd"] < 1.1 and generator.info.scores["guidance_scale"] == 1.5
    folder = Path(generator.info.tokenizer.path).parent
    assert all(file.stat().st_size <= 5e6 for file in folder.glob(f"{name.replace('-', '_')}_*"))
    assert ("l2_post" in str(load_tokenizer_of(generator).info.run_config["crt"])) == (name == "fashion-crt")


def test_a_generator_learns_from_a_tokenizer_that_is_a_file(toy_runs, tmp_path, monkeypatch):
    """A file has no run directory for its latents: they lie in the user's cache, where scoring finds them again."""
    from typer.testing import CliRunner

    from vistok.cli import app
    from vistok.engine.run_dir import RunDir
    from vistok.runs.load import load_generator

    file = tmp_path / "given.safetensors"
    shutil.copy(RunDir(toy_runs[0]).export(), file)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = [
        "train",
        "generator",
        "debug_ar",
        "--tokenizer",
        str(file),
        "--set",
        "length=2 steps",
        "--name",
        "on-a-file",
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    (run,) = (tmp_path / "runs").glob("on-a-file-*")
    train, held_out = caches_of(load_generator(run), "val")
    assert train.folder.is_relative_to(tmp_path / "cache") and held_out.manifest.split == "val"
    assert (train.latents == toy_runs[1]["train"].latents).all()


def test_class_names_choose_labels():
    names = ["Bag", "Coat", "Shirt"]
    assert chosen_labels(["coat, 2"], names, 5).tolist() == [1, 2, 1, 2, 1]
    assert chosen_labels(["2", "0"], names, 3).tolist() == [2, 0, 2]
    numbered = ["01", "02", "10"]
    assert chosen_labels(["10"], numbered, 1).tolist() == [2]
    with pytest.raises(UserError, match="unknown class '1'; there are 3: 01, 02, 10"):
        chosen_labels(["1"], numbered, 1)  # the second class, or 01?
    assert chosen_labels([], names, 4).tolist() == [0, 1, 2, 0]
    with pytest.raises(UserError, match="unknown class 'hat'; there are 3: 0 Bag, 1 Coat, 2 Shirt"):
        chosen_labels(["hat"], names, 1)
    with pytest.raises(UserError, match="unknown class '1003'; there are 1000: 0 c0, .*19 c19 and 980 more"):
        chosen_labels(["1003"], [f"c{i}" for i in range(1000)], 1)


@pytest.mark.parametrize("text", ["²", "3", "-1", "9" * 5000, "", "0,", "a\nb", '"'])
def test_what_is_no_class_is_a_sentence(text):
    with pytest.raises(UserError, match="unknown class|--class"):
        chosen_labels([text], ["Bag", "Coat", "Shirt"], 1)


def test_classes_of_any_name_can_be_chosen():
    names = ["Ankle boot", "salt, pepper", 'a "b"', "x,y", " z ", "A", "a", "crane", "bag", "crane"]
    for number, name in enumerate(names[:7]):
        assert chosen_labels([name], names, 1).tolist() == [number]
    assert chosen_labels(['"salt, pepper",ankle BOOT,5'], names, 3).tolist() == [1, 0, 5]
    with pytest.raises(UserError, match="'crane' may be any of 7 crane, 9 crane; choose by number"):
        chosen_labels(["bag,crane"], names, 1)
    assert chosen_labels(["9"], names, 1).tolist() == [9]


@pytest.mark.parametrize(
    ("out", "kind", "place", "as_format"),
    [
        ("cfg1.5", "grid", "cfg1.5.png", "grid"),
        ("cfg1.75", "npz", "cfg1.75.npz", "npz"),
        ("s.PNG", "grid", "s.PNG", "grid"),
        ("s.webp", "grid", "s.webp", "grid"),
        ("folder", "grid", "folder/samples.png", "grid"),
        ("folder", "npz", "folder/samples.npz", "npz"),
        (".", "grid", "samples.png", "grid"),
        (None, "npz", "samples.npz", "npz"),
        (None, "png", "samples", "png"),
        ("v1.5", "png", "v1.5", "png"),
        ("s", "jpg", "s", "jpg"),
        ("s.jpg", None, "s.jpg", "grid"),
        ("s.npz", None, "s.npz", "npz"),
        ("s", None, "s.png", "grid"),
        ("folder", None, "folder/samples.png", "grid"),
        (None, None, "samples.png", "grid"),
    ],
)
def test_the_place_of_samples_is_what_was_named(out, kind, place, as_format, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    assert samples_place(out and Path(out), kind) == (Path(place), as_format)


@pytest.mark.parametrize(
    ("out", "kind", "words"),
    [
        ("s.gif", "grid", r"cannot be written as .gif; end the name in .png"),
        ("s.png", "npz", r"cannot be written as .png; end the name in .npz"),
        ("file", "png", "is a file"),
        ("file/s", "grid", "is a file, not a folder"),
        ("photos", "png", "photos holds cat.png, which is not a sample"),
        ("s.jpg", "png", "--format png writes a folder of pictures, one for each sample; leave out --format"),
        ("s", "gif", "allowed are grid, png, jpg, jpeg, webp, npz"),
    ],
)
def test_a_place_that_cannot_be_taken_is_told_before_sampling(out, kind, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").touch()
    with pytest.raises(UserError, match=words):
        samples_place(Path(out), kind)


def _grey(*values):
    return torch.tensor(values, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2)


def _of_folder(folder):
    return {file.name: int(np.asarray(Image.open(file)).max()) for file in folder.iterdir()}


def test_a_folder_of_samples_is_never_a_mixture(tmp_path):
    labels, place = torch.tensor([0, 1, 2]), samples_place(tmp_path / "s", "png")[0]
    write_samples([_grey(1, 2), _grey(3)], labels, place, "png", Layout(3, 3))

    def stopped():
        yield _grey(9, 9)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_samples(stopped(), labels, place, "png", Layout(3, 3))
    assert _of_folder(place) == {"000000-class000.png": 1, "000001-class001.png": 2, "000002-class002.png": 3}
    (place / ".samples.0123456789ab.partial").mkdir()  # what a kill leaves
    write_samples([_grey(7, 8)], labels[:2] + 5, samples_place(place, "png")[0], "png", Layout(2, 2))
    assert _of_folder(place) == {"000000-class005.png": 7, "000001-class006.png": 8}
    write_samples([_grey(200)], labels[:1], samples_place(place, "jpg")[0], "jpg", Layout(1, 1))
    assert [(name, value > 195) for name, value in _of_folder(place).items()] == [("000000-class000.jpg", True)]


@pytest.mark.parametrize(("kind", "out"), [("npz", "s.npz"), ("grid", "s.png"), ("png", "s")])
def test_two_commands_never_share_an_output(kind, out, tmp_path):
    labels, place = torch.tensor([0, 1]), tmp_path / out

    def while_another_tries():
        yield _grey(1)
        with pytest.raises(UserError, match="another process is writing it"):
            write_samples([_grey(5, 6)], labels, place, kind, Layout(2, 2))
        yield _grey(2)

    write_samples(while_another_tries(), labels, place, kind, Layout(2, 2))
    assert [file.name for file in tmp_path.iterdir()] == [out]
    if kind == "npz":
        with np.load(place) as found:
            assert found["arr_0"].max(axis=(1, 2, 3)).tolist() == [1, 2]
    if kind == "png":
        assert sorted(_of_folder(place).values()) == [1, 2]


def test_pictures_are_what_their_names_say_and_fit_in_them(tmp_path):
    labels = torch.tensor([0, 1])
    for suffix, name in ((".png", "PNG"), (".jpg", "JPEG"), (".webp", "WEBP")):
        with Image.open(
            write_samples([_grey(0, 200)], labels, tmp_path / f"s{suffix}", "grid", Layout(2, 2))
        ) as picture:
            assert picture.format == name and abs(int(np.asarray(picture)[-1, -1, 0]) - 200) < 3
    wide = torch.zeros(1, 1, 1, 400, dtype=torch.uint8)
    with pytest.raises(UserError, match=r"longer side has 16480 pixels, but WEBP allows 16383; write a .png"):
        write_samples([wide.expand(41, -1, -1, -1)], torch.zeros(41), tmp_path / "wide.webp", "grid", Layout(41, 41))
    assert not (tmp_path / "wide.webp").exists()


def test_sheets_have_a_column_for_each_class_or_are_square():
    names = [f"class {number}" for number in range(40)]
    columns = layout_of(balanced_labels(20, 4), names)
    assert (
        columns.columns == 4 and columns.captions == ("class 0", "class 1", "class 2", "class 3") and not columns.each
    )
    assert layout_of(chosen_labels(["7,3"], names, 6), names).captions == ("class 7", "class 3")
    many = layout_of(balanced_labels(40, 40), names)
    assert many.columns == 7 and many.captions == tuple(names) and many.each
    for alone in (layout_of(balanced_labels(40, 1), ["all"]), layout_of(chosen_labels(["5"], names, 40), names)):
        assert alone.columns == 7 and not alone.captions
    for layout, count in ((columns, 20), (many, 40), (alone, 40)):
        images = torch.zeros(count, 3, 28, 28, dtype=torch.uint8)
        picture = layout.picture(images)
        assert picture.size == layout.size(28, 28)[::-1]
        # What stands above the first row of images, if anything, is words on white.
        above = np.asarray(picture)[:15, : 3 * 28]
        assert (above == 0).all() if not layout.captions else 0.5 < (above == 255).mean() < 1


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Ankle boot", "Ankle boot"),
        ("salt,\tpepper", "salt, pepper"),
        ("猫", "class 3"),
        ("", "class 3"),
        ("Ωmega é", "Ωmega é"),
    ],
)
def test_captions_hold_what_the_font_can_show(name, shown):
    from vistok.runs.captions import shown_name

    assert shown_name(name, 3) == shown


def test_a_reconstruction_never_takes_the_place_of_its_image(tmp_path, monkeypatch):
    from vistok.verbs.reconstruct import reconstruct_files

    tokenizer = Path(vistok.__file__).parent / "weights" / "fashion_crt_tokenizer.safetensors"
    photo = tmp_path / "photo.png"
    Image.new("L", (28, 28), 90).save(photo)
    before = photo.read_bytes()
    with pytest.raises(UserError, match="is one of the images to reconstruct"):
        reconstruct_files([photo], tokenizer, photo)
    assert photo.read_bytes() == before
    quality, place, _ = reconstruct_files([photo], tokenizer, tmp_path)
    assert [len(of) for of in quality] == [1] and place == tmp_path / "reconstruction.png" and place.is_file()


def test_a_hundredth_of_few_unseen_images_is_not_spoken_of():
    from vistok.verbs.show import _copies_line

    memory = {"copy_share": 0.0, "num_samples": 20, "num_train": 60, "num_unseen": 7}
    assert "too few to say" in _copies_line(memory) and "99 %" not in _copies_line(memory)
    assert "99 % of 300 unseen images" in _copies_line(memory | {"num_unseen": 300})


def test_a_folder_is_reconstructed_in_rows(tmp_path):
    from vistok.verbs.reconstruct import chosen_images, quality_lines, reconstruct_files

    tokenizer = Path(vistok.__file__).parent / "weights" / "fashion_crt_tokenizer.safetensors"
    for number in range(50):
        (tmp_path / "photos" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.new("L", (28, 28), 5 * number).save(tmp_path / "photos" / "ab"[number % 2] / f"{number:02d}.png")
    (tmp_path / "photos" / "notes.txt").touch()
    files, notes = chosen_images([tmp_path / "photos"])
    assert len(files) == 40 and {file.parent.name for file in files} == {"a", "b"}
    assert notes == [f"40 of 50 images in {tmp_path}/photos, spread over it"]
    assert chosen_images([tmp_path / "photos" / "a"])[1] == []
    (quality,), place, notes = reconstruct_files(files[:12], tokenizer, tmp_path)
    assert notes == []
    Image.new("RGB", (28, 28), (200, 10, 10)).save(tmp_path / "red.png")
    grey = reconstruct_files([*files[:2], tmp_path / "red.png"], tokenizer, tmp_path / "grey.png").notes
    assert grey == ["1 of 3 images turned to grey first: the tokenizer is one of grey images"]
    with Image.open(place) as picture:
        assert picture.size == (3 * (10 * 30 - 2), 3 * (4 * 30 - 2))  # two rows of originals, each above its own
        pixels = np.asarray(picture)
    originals = [int(pixels[3 * 30 * row + 40, 40, 0]) for row in (0, 2)]
    assert originals == [5 * int(files[number].stem) for number in (0, 10)]
    assert (pixels[3 * 60 :, 3 * 30 * 2 :] == 255).all()  # the eleventh and twelfth are alone in their rows
    (line,) = quality_lines(files[:12], quality)
    assert line.startswith("12 images: PSNR ") and f"lowest {min(quality):.2f} dB ({tmp_path}" in line
    assert len(quality_lines(files[:3], quality[:3])) == 3
    broken = tmp_path / "photos" / "b" / "zz.png"
    broken.write_bytes(b"no picture")
    files, notes = chosen_images([tmp_path / "photos" / "b"])
    assert (
        len(files) == 25 and broken not in files and len(notes) == 1 and f"left out: image {broken}: cannot" in notes[0]
    )
    (tmp_path / "empty").mkdir()
    broken.rename(tmp_path / "empty" / "zz.png")
    with pytest.raises(UserError, match="none of its images can be read; the first: image .*zz.png: cannot be read"):
        chosen_images([tmp_path / "empty"])
    (tmp_path / "empty" / "zz.png").unlink()
    with pytest.raises(UserError, match="empty holds no images"):
        chosen_images([tmp_path / "empty"])


@pytest.mark.parametrize("text", ["[]", "{}", '{"answer": 3}', "{"])
def test_a_damaged_note_of_a_finished_demo_is_none(text, tmp_path):
    from vistok.demo.sizes import finished_answer

    (tmp_path / "demo-tiny").mkdir()
    (tmp_path / "demo-tiny" / "finished.json").write_text(text)
    assert finished_answer("tiny", tmp_path) is None


def test_tokenizer_scores_by_hand(toy_runs, fashion_root, quiet):
    """An independent computation of PSNR and rFMD from pixels."""
    extractor = choose_evaluator(DataConfig())
    scores = evaluate_tokenizer(toy_runs[0], extractor, quiet)
    data = DataConfig(root=str(fashion_root), max_images=400)
    tokenizer = vistok.load_tokenizer(toy_runs[0])
    real = torch.from_numpy(open_split(data, "test").images).permute(0, 3, 1, 2)
    fake = to_uint8(tokenizer.decode(tokenizer.encode(real / 127.5 - 1)))
    error = (real.double() - fake.double()).square().mean(dim=(1, 2, 3))
    assert scores["psnr"]["value"] == pytest.approx(float((10 * torch.log10(255**2 / error)).mean()), rel=1e-5)
    a, b = (Moments.of(extractor(x).numpy()) for x in (fake, real))
    assert scores["rfmd"]["value"] == pytest.approx(frechet_distance(a, b), rel=1e-6)
    assert scores["rfmd"]["low"] < scores["rfmd"]["corrected"] < scores["rfmd"]["high"]
    assert scores["rfmd"]["protocol"]["metric"] == "rFMD"
    assert evaluate_tokenizer(toy_runs[0], extractor, quiet) == scores  # read, not made again


def test_generator_scores_and_guidance(toy_runs, quiet):
    extractor, stage2 = choose_evaluator(DataConfig()), load_stage2(toy_runs[2])
    chosen = choose_guidance(stage2, extractor, (1.0, 2.0), Drawing(stage2.sampling(), 100), quiet)
    assert chosen["guidance_scale"] in (1.0, 2.0)
    for score in chosen["scores"].values():
        assert "val" in score["protocol"]["reference"]  # never the test set
    scores = evaluate_generator(stage2, Against((extractor,)), Drawing(stage2.sampling(), 200), quiet)
    assert scores["gfmd"]["protocol"]["num_samples"] == 200
    assert scores["gfmd"]["treatment"]["sampling"]["guidance_scale"] == 1.0
    assert 0 <= scores["precision"]["value"] <= 1 and 0 <= scores["memorization"]["copy_share"] <= 1
    assert scores["precision"]["protocol"]["num_samples"] == 200 and scores["memorization"]["num_train"] == 400
    assert evaluate_generator(stage2, Against((extractor,)), Drawing(stage2.sampling(), 200), quiet) == scores
    # Copies are told by what the tokenizer makes of unseen images, at the size of the data, whatever size it draws.
    unseen = torch.from_numpy(np.stack([open_split(stage2.data, "test").read(i) for i in range(3)])).permute(0, 3, 1, 2)
    assert scores["memorization"]["reconstructed"]
    made = _reconstructed(stage2, unseen)
    expected = stage2.tokenizer.decode(stage2.tokenizer.encode(unseen / 127.5 - 1))
    assert torch.equal(made, to_uint8(expected)) and not torch.equal(made, unseen)
    larger = _reconstructed(replace(stage2, tokenizer=stage2.tokenizer.resized(56)), unseen)
    assert larger.shape == unseen.shape and not torch.equal(larger, made)
    near = evaluate_generator(stage2, Against((extractor,), "train"), Drawing(stage2.sampling(), 200), quiet)[
        "memorization"
    ]
    # Unseen images are held-out ones: training images lie at no distance from themselves, beside which nothing is a copy.
    assert near["num_unseen"] == len(open_split(stage2.data, "val")) and near["real_median"] > 0.01
    cooler = choose_guidance(stage2, extractor, (1.0,), Drawing(stage2.sampling(temperature=0.5), 100), quiet)
    assert cooler["scores"]["1"]["treatment"]["sampling"]["temperature"] == 0.5
    assert cooler["scores"]["1"]["treatment"]["sampling"]["seed"] not in (0, 1)  # noise of its own


def test_guidance_of_fewer_images_than_features_is_chosen_by_an_unbiased_distance(toy_runs, quiet):
    extractor, stage2 = choose_evaluator(DataConfig()), load_stage2(toy_runs[2])
    scales, few = (1.0, 2.0, 4.0), extractor.num_features - 1
    enough = choose_guidance(stage2, extractor, scales, Drawing(stage2.sampling(), few + 1), quiet)
    assert "kernel_scores" not in enough
    held_out = replace(stage2, data=stage2.data.replace(max_images=40))
    assert len(open_split(held_out.data, "val")) < extractor.num_features
    assert "kernel_scores" in choose_guidance(held_out, extractor, scales, Drawing(stage2.sampling(), few + 1), quiet)
    found = choose_guidance(stage2, extractor, scales, Drawing(stage2.sampling(), few), quiet)
    by_kernel = {scale: score["value"] for scale, score in found["kernel_scores"].items()}
    assert f"{found['guidance_scale']:g}" == min(by_kernel, key=by_kernel.__getitem__)
    kernel = found["kernel_scores"]["1"]["protocol"]
    assert kernel["metric"] == "gKMD" and "val" in kernel["reference"] and kernel["num_samples"] == few
    # Studies record the Fréchet distance to the same images beside it.
    assert found["scores"].keys() == by_kernel.keys()
    assert found["scores"]["1"]["protocol"]["metric"] == "gFMD"


def test_scores_are_made_anew_where_images_or_weights_changed(toy_runs, tmp_path, quiet, fashion_root):
    """The same run directory, scored on other images: never the old numbers."""
    extractor = choose_evaluator(DataConfig())
    first = evaluate_tokenizer(toy_runs[0], extractor, quiet, split="val")
    copy = tmp_path / "copy"
    shutil.copytree(toy_runs[0], copy)
    weights = copy / "export" / "model.safetensors"
    state, header = load_weights(weights)
    state["decoder.conv_out.bias" if "decoder.conv_out.bias" in state else next(iter(state))].add_(0.5)
    save_weights(weights, state, {k: v for k, v in header.items() if k not in ("digest", "schema_version")})
    assert evaluate_tokenizer(copy, extractor, quiet, split="val")["psnr"]["value"] != first["psnr"]["value"]


def test_likelihood_of_held_out_tokens(toy_runs, quiet):
    found = evaluate_likelihood(toy_runs[2], toy_runs[1]["train"], toy_runs[1]["val"], quiet)
    nats, bits = found["ema"]["nats_per_token"], found["ema"]["bits_per_image"]
    assert bits["value"] == pytest.approx(nats["value"] * 49 / np.log(2))
    assert nats["low"] < nats["value"] < nats["high"]
    assert nats["protocol"]["reference"].startswith("fashion_mnist val")
    generator = vistok.load_generator(toy_runs[2])
    batch = toy_runs[1]["val"].batch(range(400))
    with torch.no_grad():
        assert nats["value"] == pytest.approx(float(generator.nats(batch["latents"], batch["labels"]).mean()), rel=1e-5)
    for other in ("val", "train"):
        assert caches_of(vistok.load_generator(toy_runs[2]), other) is not None


def test_compare_refuses_other_protocols(toy_runs, tmp_path, quiet):
    extractor = choose_evaluator(DataConfig())
    evaluate_tokenizer(toy_runs[0], extractor, quiet)
    copy = tmp_path / "copy"
    shutil.copytree(toy_runs[0], copy)
    same = comparison([toy_runs[0], copy])
    assert {row.metric for row in same.rows} >= {"rFMD", "PSNR (dB)"} and not any(row.better for row in same.rows)
    assert all(row.differences[1].value == row.differences[1].low == 0 for row in same.rows if row.metric == "rFMD")
    files = [f for f in (copy / "evaluations").glob("*.json") if "rfmd" in f.read_text()]
    for file in files:
        scores = json.loads(file.read_text())
        scores["rfmd"]["protocol"]["num_samples"] = 7
        file.write_text(json.dumps(scores))
    found = comparison([toy_runs[0], copy])
    assert any(note.startswith("not compared: rFMD of B and A: 7 images, not 400") for note in found.notes)
    assert "PSNR (dB)" in [row.metric for row in found.rows] and "rFMD" not in [row.metric for row in found.rows]
    for file in files:
        file.write_text(file.read_text().replace('"num_samples": 400', '"num_samples": 7'))
    with pytest.raises(
        UserError, match="have different protocols and cannot be compared: PSNR .* of B and A: 7 images, not 400"
    ):
        comparison([toy_runs[0], copy])
    with pytest.raises(UserError, match="has no scores yet; make them with vistok evaluate tokenizer"):
        comparison([toy_runs[0], _run_without_scores(toy_runs[0], tmp_path)])
    with pytest.raises(UserError, match="different kinds.*is a tokenizer; .*is a generator; compare runs of one kind"):
        comparison([toy_runs[0], toy_runs[2]])
    with pytest.raises(UserError, match="is named twice"):
        comparison([toy_runs[0], copy, copy])
    with pytest.raises(UserError, match="two or more runs"):
        comparison([copy])


def test_compare_sets_chosen_guidances_side_by_side(toy_runs, tmp_path, quiet):
    extractor = choose_evaluator(DataConfig())
    copy = tmp_path / "copy"
    shutil.copytree(toy_runs[2], copy, ignore=shutil.ignore_patterns("evaluations"))
    for run, scale in ((toy_runs[2], 1.5), (copy, 2.0)):
        drawing = Drawing(AutoregressiveSampling(guidance_scale=scale), 120)
        evaluate_generator(load_stage2(run), Against((extractor,)), drawing, quiet)
        evaluate_likelihood(run, toy_runs[1]["train"], toy_runs[1]["val"], quiet)
    rows = {(row.metric, row.treatment) for row in comparison([toy_runs[2], copy]).rows}
    assert ("gFMD", "A: ema weights, guidance 1.5; B: ema weights, guidance 2") in rows
    assert {("nats per token", "ema weights"), ("nats per token", "raw weights")} < rows


def _run_without_scores(run, tmp_path):
    shutil.copytree(run, tmp_path / "bare", ignore=shutil.ignore_patterns("evaluations"))
    return tmp_path / "bare"


@pytest.mark.slow
@pytest.mark.parametrize("number", ["1", "2"])
def test_shipped_evaluator_is_accurate_and_alive(number, fashion_root):
    data = DataConfig(root=str(fashion_root))
    extractor = choose_evaluator(data, number)
    source = open_split(data, "test")
    features = torch.cat([extractor(to_uint8(batch["images"])) for batch in eval_images(source, data, 1000)])
    logits = extractor.classifier.head(features.relu())
    assert (logits.argmax(1).numpy() == source.labels).mean() >= 0.91
    assert share_of_dead_features(features) == 0


def test_evaluator_is_never_in_a_training_loss():
    digests = {
        name: str(shipped_classifier(name)[1]["digest"])
        for name in ("fashion_evaluator", "fashion_evaluator_2", "fashion_perceptual")
    }
    assert len(set(digests.values())) == 3
    extractor = choose_evaluator(DataConfig())
    require_unseen(extractor, {digests["fashion_perceptual"]})
    with pytest.raises(UserError, match="must not score it"):
        require_unseen(extractor, {extractor.digest})


def test_an_evaluator_of_other_images_is_refused(tmp_path):
    photos = DataConfig(dataset="folder", image_size=28, channels=1)
    state, header = load_weights(Path(vistok.__file__).parent / "weights" / "fashion_evaluator.safetensors")
    facts = {k: v for k, v in header.items() if k not in ("digest", "schema_version")}
    save_weights(tmp_path / "e.safetensors", state, facts)
    with pytest.raises(UserError, match="was trained on fashion_mnist, but these images are from folder"):
        choose_evaluator(photos, str(tmp_path / "e.safetensors"))
    save_weights(tmp_path / "e.safetensors", state, facts | {"dataset": "folder"})
    with pytest.raises(UserError, match="knows the classes T-shirt/top, .* these images have cats, dogs"):
        choose_evaluator(photos, str(tmp_path / "e.safetensors"), class_names=["cats", "dogs"])
    with pytest.raises(UserError, match="not both"):
        choose_evaluator(photos, "run", "inception.pth")
    with pytest.raises(UserError, match="Inception weights nowhere: not found"):  # never silently the default
        choose_evaluator(DataConfig(), inception="nowhere")


def test_own_images_need_an_evaluator(monkeypatch):
    images = DataConfig(dataset="folder", image_size=64, channels=3)
    assert choose_evaluator(images).name == "efficientnet-lite0"
    monkeypatch.setattr("vistok.scoring.evaluators.is_installed", lambda: False)
    with pytest.raises(UserError, match="images64_evaluator"):
        choose_evaluator(images)


# LSUN's are ImageNet's on other images (a test of the recipes holds it): counting them again takes half a minute.
# ImageNet's take long to count, and most numbers are held in test_recipes.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name.startswith("imagenet") else name
        for name in sorted(all_recipes())
        if not name.startswith("lsun")
    ],
)
def test_every_recipe_resolves(name):
    found = recipe_json(name)
    if found["kind"] == "study":
        assert all("tokenizers" in what for what in found["resolved"]["grids"].values())
        return
    assert found["resolved"]["steps"] > 0 and found["resolved"]["train_flops"] > 0
    assert sum(found["resolved"]["params"].values()) > 0 and found["resolved"]["memory_gib_estimate"] > 0


@pytest.mark.parametrize("pair", [("fashion_vq", "fashion_crt"), ("images64_vq", "images64_crt")])
def test_regularizer_costs_about_five_percent_in_the_small_recipes(pair):
    plain, regularized = (recipe_json(name)["resolved"]["train_flops"] for name in pair)
    assert 1.03 < regularized / plain < 1.07


@pytest.mark.slow
def test_lpips_loads_torchvisions_weights_from_a_file(tmp_path):
    from vistok.tokenizer.perceptual import LPIPS, VGG

    torch.manual_seed(0)
    from torchvision.models import vgg16

    state = vgg16(weights=None).state_dict()
    torch.save(state, tmp_path / "vgg.pth")
    lpips = LPIPS(VGG.load(str(tmp_path / "vgg.pth")))
    first = next(iter(lpips.network.net.state_dict().values()))
    assert torch.equal(first, state["features.0.weight"])
    a, b = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    a.requires_grad_()
    assert float(lpips(b, b)) == 0
    lpips(a, b).backward()
    assert a.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in lpips.parameters())
    with pytest.raises(UserError, match="losses.perceptual.vgg_file"):
        VGG.load(str(tmp_path / "none.pth"))
    with pytest.raises(UserError, match="'features.0.bias' is missing"):
        LPIPS({"features.0.weight": state["features.0.weight"]})


@pytest.mark.slow
def test_titoks_distance_is_that_of_torchvisions_logits(tmp_path):
    from torchvision.models import convnext_small
    from torchvision.transforms import v2

    from vistok.tokenizer.logit_distance import CONVNEXT, LogitDistance

    torch.manual_seed(0)
    theirs = convnext_small(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "convnext.pth")
    distance = LogitDistance(CONVNEXT.load(str(tmp_path / "convnext.pth"))).train()
    prepare = v2.Compose(
        [v2.Resize((224, 224), antialias=True), v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    )
    a, b = torch.rand(2, 2, 3, 64, 96)
    with torch.no_grad():
        expected = (theirs(prepare(a)) - theirs(prepare(b))).square().mean()
    found = distance((a * 2 - 1).requires_grad_(), b * 2 - 1)
    assert float(found.detach()) == pytest.approx(float(expected), rel=1e-4) and found.requires_grad
    assert not any(p.requires_grad for p in distance.parameters())
    grey = torch.rand(2, 1, 1, 32, 32) * 2 - 1
    assert torch.equal(distance(*grey), distance(*grey.expand(-1, -1, 3, -1, -1)))
    with pytest.raises(UserError, match=r"ConvNeXt-S weights .*--set losses\.logits\.file=PATH"):
        CONVNEXT.load(str(tmp_path / "none.pth"))
    with pytest.raises(UserError, match="ConvNeXt-S weights: 'features.0.0.weight' is missing"):
        LogitDistance({"head": torch.zeros(1)})


@pytest.mark.slow
def test_titoks_recipes_count_the_network_of_their_logits():
    from vistok.verbs.train_tokenizer import plan

    run = find_recipe("imagenet256_titok_b64_decoder")
    without = run.replace(losses=run.losses.replace(logits=None))
    counted, rest = (plan(one, 1000).flops_per_step[-1][1] for one in (run, without))
    # Image and reconstruction forward, and back to the reconstruction: three times 8.7 G multiply-adds at 224 pixels.
    assert (counted - rest) / run.batch_size == pytest.approx(3 * 2 * 8.7e9, rel=0.03)


def test_shipped_weights_are_small_and_say_their_recipe():
    for name in ("fashion_evaluator", "fashion_evaluator_2", "fashion_perceptual"):
        header = shipped_classifier(name)[1]
        assert header["run_config"]["seed"] and name in all_recipes()
        assert find_recipe(name).classifier.model_dump(mode="json") == header["config"]


@pytest.mark.slow
def test_demo_end_to_end_and_again(tmp_path, fashion_root, quiet):
    from vistok.demo.make import run_demo
    from vistok.demo.sizes import finished_answer

    page, answer = run_demo("tiny", fashion_root, tmp_path, quiet)
    text = page.read_text()
    assert answer.split(" (")[0] in text
    assert not re.search(r"https?:", text.replace("http://www.w3.org", ""))  # self-contained; base64 may hold "http"
    words = ("PSNR", "rFMD", "codebook usage", "bits per image", "gFMD at that guidance", "floor", "data:image/png")
    assert all(word in text for word in words)
    facts = json.loads((page.parent / "demo.json").read_text())
    arms = facts["results"][0]
    spent = [arms[arm]["tokenizer"]["train_flops"] for arm in ("baseline", "crt")]
    assert spent[0] * 0.9 < spent[1] <= spent[0]  # equal FLOPs, up to one step
    assert arms["crt"]["tokenizer"]["steps"] < arms["baseline"]["tokenizer"]["steps"]
    configs = [
        load_weights(tmp_path / arms[arm]["tokenizer_run"] / "export" / "model.safetensors")[1]["run_config"]
        for arm in ("baseline", "crt")
    ]
    differing = {key for key in configs[0] if configs[0][key] != configs[1][key]}
    assert differing == {"regularizers", "length", "name", "recipe"}
    assert finished_answer("tiny", tmp_path) == answer
    (page.parent / "finished.json").unlink()
    before = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.safetensors")}
    assert run_demo("tiny", fashion_root, tmp_path, quiet)[1] == answer
    assert before == {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*.safetensors")}
