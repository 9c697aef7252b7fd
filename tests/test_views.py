"""Tokens of other views and sizes: ten crops, and the same tokenizer on larger images."""

import json
import shutil

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import vistok
from vistok.cli import app
from vistok.config import override
from vistok.data.images.open import open_split
from vistok.data.images.transforms import prepare, resize_uint8, to_float
from vistok.data.latents.cache import LatentCache, LatentManifest
from vistok.data.latents.views import TEN_CROP, expand_views
from vistok.data.latents.writer import LatentCacheWriter
from vistok.data.loader import eval_images
from vistok.engine.run_dir import RunDir
from vistok.engine.weights import save_weights
from vistok.errors import UserError
from vistok.generator.autoregressive.generator import AutoregressiveGenerator
from vistok.recipes import find_recipe
from vistok.rng import numpy_generator
from vistok.runs.load import load_generator, load_tokenizer, load_tokenizer_of
from vistok.runs.run_images import data_of
from vistok.scoring.evaluate_likelihood import caches_of, evaluate_likelihood
from vistok.scoring.evaluate_tokenizer import evaluate_tokenizer
from vistok.scoring.evaluators import evaluation_file
from vistok.space import token_grid
from vistok.verbs import train_generator, train_tokenizer
from vistok.verbs.cache_latents import cache_tokens

SIZE, LARGER = 16, 32


@pytest.fixture(scope="module")
def tokenizer_run(tmp_path_factory, photo_folder, quiet):
    """A tokenizer of photographs at 16 pixels: 4x4 tokens."""
    network = {
        "multipliers": [1, 1, 1],
        "channels": 8,
        "norm_groups": 4,
        "num_res_blocks": 1,
        "attention_resolutions": [],
    }
    settings = [
        f"data.root={json.dumps(str(photo_folder))}",
        f"data.image_size={SIZE}",
        f"tokenizer.image_size={SIZE}",
        f"tokenizer.encoder={json.dumps(network)}",
        f"tokenizer.decoder={json.dumps(network)}",
        "batch_size=8",
        "length=3 steps",
        "tokenizer.quantizer.start_after=1",
        "execution.tensorboard=false",
        "execution.num_workers=0",
    ]
    config = override(find_recipe("images64_vq"), settings)
    return train_tokenizer.prepare(config, tmp_path_factory.mktemp("runs")).train(quiet).path


def test_ten_crops_are_torchvisions_of_an_image_a_tenth_larger(tokenizer_run, quiet):
    from torchvision.transforms import TenCrop

    cache = cache_tokens(tokenizer_run, "val", quiet, out=tokenizer_run / "ten", views=("ten-crop",))
    assert cache.manifest.views == TEN_CROP and len(set(TEN_CROP)) == 10
    tokenizer = load_tokenizer(tokenizer_run)
    data = data_of(tokenizer).replace(image_size=int(1.1 * SIZE))
    images = next(eval_images(open_split(data, "val"), data, 100))["images"]
    for number, crop in enumerate(TenCrop(SIZE)(images)):
        assert np.array_equal(cache.latents[number::10], tokenizer.encode(crop).numpy())
    # Without saying views, a finished cache keeps those it has.
    assert cache_tokens(tokenizer_run, "val", quiet, out=tokenizer_run / "ten").manifest == cache.manifest


@pytest.mark.parametrize(
    ("views", "words"),
    [
        (("ten-crop", "flip"), "cannot be mixed"),
        (("flip", "3-crops"), "cannot be mixed"),
        (("center", "ten-crop"), "has a middle of its own"),
        (("center", "top-left"), "has a middle of its own"),
        (("middel",), "allowed are center, flip, ten-crop, and as in 40-crops"),
        (("0-crops",), "views 0-crops"),
        ((), "views none"),
    ],
)
def test_views_that_are_refused(views, words):
    with pytest.raises(UserError, match=words):
        expand_views(views)


def test_ten_crop_of_images_that_are_not_larger_says_what_to_do(toy_runs, quiet, tmp_path):
    with pytest.raises(UserError, match="only at 28 pixels; use --view center --view flip"):
        cache_tokens(toy_runs[0], "val", quiet, out=tmp_path / "c", views=("ten-crop",))


def test_random_crops_are_those_of_training_and_the_centre(tokenizer_run, quiet, tmp_path):
    """Each crop depends on its image and number alone: not on how many there are, nor on the split into pieces."""
    few, many = (
        cache_tokens(tokenizer_run, "val", quiet, out=tmp_path / views, views=(views,))
        for views in ("2-crops", "90-crops")
    )
    assert few.manifest.views == ("center", "crop-1", "crop-2") == many.manifest.views[:3]
    assert few.num_images == many.num_images and few.central_view == 0
    centre = cache_tokens(tokenizer_run, "val", quiet, out=tmp_path / "c", views=("center",))
    assert np.array_equal(few.latents[::3], centre.latents)
    assert all(np.array_equal(few.latents[number::3], many.latents[number::91]) for number in range(3))
    tokenizer = load_tokenizer(tokenizer_run)
    data = data_of(tokenizer)
    images = open_split(data, "val")
    crop = prepare(images.read(1), data, numpy_generator(0, "crop", 1, 2))
    expected = tokenizer.encode(to_float(torch.from_numpy(crop).permute(2, 0, 1))[None])
    assert np.array_equal(few.latents[1 * 3 + 2], expected[0].numpy())


def test_random_crops_without_augmentation_say_what_to_do(toy_runs, quiet, tmp_path):
    with pytest.raises(UserError, match="used the centre crop only .*; use --view center --view flip"):
        cache_tokens(toy_runs[0], "val", quiet, out=tmp_path / "c", views=("5-crops",))


def test_workers_do_not_change_a_cache(tokenizer_run, quiet, tmp_path):
    for views in (("center",), ("4-crops",)):
        caches = [
            cache_tokens(
                tokenizer_run, "train", quiet, tmp_path / views[0] / str(workers), views=views, workers=workers
            )
            for workers in (0, 2)
        ]
        assert np.array_equal(caches[0].latents, caches[1].latents)


def test_a_tokenizer_at_another_size_shares_its_weights(tokenizer_run):
    tokenizer = load_tokenizer(tokenizer_run)
    larger = tokenizer.resized(LARGER)
    images = torch.rand(2, 3, LARGER, LARGER) * 2 - 1
    assert larger.space.layout.sides == (8, 8) and tokenizer.space.layout.sides == (4, 4)
    assert torch.equal(larger.encode(images), tokenizer.encode(images))
    assert larger.decode(larger.encode(images)).shape == images.shape
    assert larger.post_quantizer is tokenizer.post_quantizer
    with pytest.raises(UserError, match="image size 30: this tokenizer runs at multiples of 4"):
        tokenizer.resized(30)


def test_more_tokens_without_training_again(tokenizer_run, quiet, tmp_path):
    """The paper's way to 400 and 576 tokens, from the cache to samples."""
    caches = {name: cache_tokens(tokenizer_run, name, quiet, image_size=LARGER) for name in ("train", "val")}
    assert caches["train"].folder == tokenizer_run / "tokens-32" / "train"
    assert caches["train"].manifest.space.layout.sides == (8, 8)
    own = {name: cache_tokens(tokenizer_run, name, quiet) for name in ("train", "val")}
    assert own["train"].identity() != caches["train"].identity()
    config = override(find_recipe("debug_ar"), ["length=2 steps", "execution.tensorboard=false"])
    with pytest.raises(UserError, match="its space is 8x8 tokens of .* codes, this run needs|its space is 4x4 tokens"):
        train_generator.prepare(config, caches["train"], own["val"], tokenizer_run, tmp_path)
    job = train_generator.prepare(config, caches["train"], caches["val"], tokenizer_run, tmp_path)
    generator = load_generator(job.train(quiet).path)
    decoder = load_tokenizer_of(generator)
    assert decoder.config.image_size == LARGER
    assert decoder.decode(torch.zeros(1, 64, dtype=torch.int64)).shape == (1, 3, LARGER, LARGER)
    assert caches_of(load_generator(job.run_dir.path), "val")[1].identity() == caches["val"].identity()


def test_larger_images_are_scored_at_the_usual_size(tokenizer_run, quiet):
    scores = evaluate_tokenizer(tokenizer_run, None, quiet, image_size=LARGER)
    usual = evaluate_tokenizer(tokenizer_run, None, quiet)
    assert scores["psnr"]["protocol"]["resize"] == "32 to 16 pixels bicubic, antialiased; none"
    assert scores["psnr"]["protocol"]["reference_digest"] == usual["psnr"]["protocol"]["reference_digest"]
    assert scores["bits_per_image_upper_bound"] == 4 * usual["bits_per_image_upper_bound"]
    tokenizer = load_tokenizer(tokenizer_run)
    by_size = {}
    for size in (SIZE, LARGER):
        data = data_of(tokenizer, image_size=size)
        by_size[size] = next(eval_images(open_split(data, "test"), data, 100))["images"]
    from vistok.data.images.transforms import to_uint8

    fake = resize_uint8(to_uint8(tokenizer.resized(LARGER).decode(tokenizer.encode(by_size[LARGER]))), (SIZE, SIZE))
    error = (fake.float() - to_uint8(by_size[SIZE]).float()).square().mean(dim=(1, 2, 3))
    assert scores["psnr"]["value"] == pytest.approx(float((-10 * (error / 255**2).log10()).mean()), rel=1e-4)


def test_a_dry_run_of_caching_says_bytes_and_hours(tokenizer_run):
    command = ["cache", str(tokenizer_run), "--split", "train", "--view", "ten-crop", "--dry-run"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    (plan,) = json.loads(result.output)
    assert plan["bytes"] == plan["images"] * 10 * 16 * 2 == 72 * 10 * 16 * 2
    assert plan["hours"] > 0 and plan["images_per_second"] > 0
    assert not (tokenizer_run / "tokens" / "train.partial").exists()


def test_without_views_a_finished_or_stopped_ten_crop_cache_goes_on(tokenizer_run, quiet, tmp_path, monkeypatch):
    """The command line asked for the centre crop where nobody asked: the finished one was refused, the stopped one lost."""
    command = ["cache", str(tokenizer_run), "--split", "val", "--out", str(tmp_path / "c")]

    def die(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(LatentCacheWriter, "finish", die)
        with pytest.raises(KeyboardInterrupt):
            cache_tokens(tokenizer_run, "val", quiet, out=tmp_path / "c", views=("ten-crop",))
        monkeypatch.setattr(
            "vistok.verbs.cache_latents._Caching.batches", lambda job, numbers: iter(())
        )  # none is left
    for _ in range(2):
        assert CliRunner().invoke(app, command).exit_code == 0
    assert LatentCache(tmp_path / "c").manifest.views == TEN_CROP
    refused = CliRunner().invoke(app, [*command, "--view", "center"])
    assert isinstance(refused.exception, UserError) and "its views are ten-crop, this run needs" in str(
        refused.exception
    )


def test_ten_crop_likelihoods_are_of_the_middle_in_training_and_validation(tokenizer_run, quiet, tmp_path):
    """The corner view of train was set against the centre of validation."""
    facts = {"tokenizer_digest": "t", "grid": (4, 4), "codebook_size": 64, "dataset": "d", "data_digest": "x",
             "split": "val", "num_images": 6, "class_names": ("a", "b")}  # fmt: skip
    ten, centre = (LatentManifest(**facts, views=views) for views in (TEN_CROP, ("center",)))
    grids = torch.randint(64, (6, 10, 16), generator=torch.Generator().manual_seed(0))
    caches = []
    for name, manifest, tokens in (("ten", ten, grids.flatten(0, 1)), ("middle", centre, grids[:, 4])):
        writer = LatentCacheWriter(tmp_path / name, manifest, 100)
        writer.prepare(np.arange(6) % 2)
        writer.write(0, tokens, 0.1)
        caches.append(writer.finish())
    run = _generator_without_raw_weights(tmp_path / "run")
    found = evaluate_likelihood(run, *caches, quiet)
    assert found["train"]["nats_per_token"]["value"] == found["ema"]["nats_per_token"]["value"]
    assert found["train"]["nats_per_token"]["protocol"]["reference"] == "d val, middle"
    assert "raw" not in found  # this run has no raw weights, as an imported one
    # Only what was wrong is named anew.
    (ten_crop,) = (run / "evaluations").glob("likelihood-*")
    evaluate_likelihood(run, caches[1], caches[1], quiet)
    models, identity = [vistok.load_generator(run).info.digest], caches[1].identity()
    old = evaluation_file(run, "likelihood-val", models=models, caches=[identity, identity], images=5_000)
    assert old.is_file() and old != ten_crop
    with open(caches[0].folder / "tokens.npy", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x07")
    shutil.rmtree(run / "evaluations")
    with pytest.raises(UserError, match="tokens.npy is damaged"):
        evaluate_likelihood(run, LatentCache(tmp_path / "ten"), caches[1], quiet)


def _generator_without_raw_weights(place):
    """A finished run as imports write it, of 4x4 tokens, 64 codes and 2 classes."""
    config = override(find_recipe("debug_ar"), [])
    model = AutoregressiveGenerator(config.generator, token_grid(4, 4, 64), 2)
    torch.nn.init.normal_(model.head.weight, std=0.5)
    run = RunDir(place)
    run.start(config, {})
    header = {"model": "generator", "config": config.generator.model_dump(mode="json"), "grid": [4, 4],
              "codebook_size": 64, "num_classes": 2, "class_names": ["a", "b"], "tokenizer": {"digest": "t", "path": "t"},
              "recipe": "r", "dataset": "d", "run_config": {}, "training": {}}  # fmt: skip
    save_weights(run.export(), model.state_dict(), header)
    run.finish()
    return place
