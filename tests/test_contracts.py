"""Every contract with a second implementation (toy_parts.py), from training to a study, by the verbs that users call."""

import json
import shutil

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import toy_parts
from vistok.cli import app
from vistok.config import override
from vistok.data.latents.cache import LatentCache
from vistok.data.loader import train_latents
from vistok.errors import UserError
from vistok.generator.autoregressive.config import AutoregressiveConfig, AutoregressiveSampling
from vistok.generator.autoregressive.generator import AutoregressiveGenerator
from vistok.metrics.cost import cost_in
from vistok.recipes import find_recipe
from vistok.rng import normal_grid
from vistok.runs.config import GeneratorRun, TokenizerRun
from vistok.runs.load import load_generator, load_tokenizer
from vistok.scoring.evaluators import read_evaluation
from vistok.space import Grid, Line, Tokens, Vectors, grid, token_grid
from vistok.study.config import Choice
from vistok.study.findings.report import write_report
from vistok.study.findings.table import collect, read_table
from vistok.study.run.grid import expand
from vistok.study.run.order import make_order
from vistok.study.run.record import StudyFolder
from vistok.study.run.worker import perform
from vistok.units import steps
from vistok.verbs import train_generator, train_tokenizer
from vistok.verbs.cache_latents import cache_tokens


@pytest.fixture(scope="module")
def house():
    with toy_parts.registered():
        yield


@pytest.fixture(scope="module")
def vectors(house, fashion_root, tmp_path_factory, quiet):
    """A tokenizer to vectors with a toy regularizer, its caches, and a generator that draws vectors."""
    runs = tmp_path_factory.mktemp("vectors")
    config = override(
        find_recipe("debug_vq"),
        [
            f'data.root="{fashion_root}"', "data.max_images=200", 'tokenizer.quantizer={"kind": "toy_gaussian"}',
            "regularizers.toy_shrink.weight=0.2", "losses.perceptual=null",
        ],
    )  # fmt: skip
    tokenizer = train_tokenizer.prepare(config, runs).train(quiet).path
    caches = {split: cache_tokens(tokenizer, split, quiet) for split in ("train", "val")}
    config = override(find_recipe("debug_ar"), ['generator={"kind": "toy_normal"}', "length=30 steps"])
    job = train_generator.prepare(config, caches["train"], caches["val"], tokenizer, runs)
    return tokenizer, caches, job.train(quiet).path


def vistok(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return done.exit_code, done.output


def test_a_tokenizer_to_vectors_goes_through_training_and_cache(vectors):
    run, caches, _ = vectors
    tokenizer = load_tokenizer(run)
    assert tokenizer.space == Vectors(layout=grid(7, 7), dim=4)
    images = torch.rand(3, 1, 28, 28) * 2 - 1
    latents = tokenizer.encode(images)
    assert latents.shape == (3, 49, 4) and tokenizer.decode(latents).shape == images.shape
    assert torch.equal(tokenizer.encode(images), latents)  # the mean, not a draw
    with pytest.raises(UserError, match=r"7x7 has 49 positions.*\(batch, 49, 4\)"):
        tokenizer.decode(latents[:, :40])
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    trained = [row for row in rows if row["kind"] == "train"]
    assert all("autoencoder/shrink_loss" in row for row in trained)
    # No codes, so no alarm that speaks of them.
    assert not [row for row in rows if row["kind"] == "alarm" and "code" in row.get("name", "")]
    cache = caches["train"]
    assert cache.latents.shape == (200, 49, 8) and cache.latents.dtype == np.float16
    mean, deviation = cache.channel_statistics
    stored = torch.from_numpy(np.array(cache.latents)).double()
    means, deviations = stored.flatten(0, 1).chunk(2, dim=-1)
    torch.testing.assert_close(mean.double(), means.mean(0), rtol=1e-5, atol=1e-6)
    expected = (means.var(0, correction=0) + deviations.square().mean(0)).sqrt()
    torch.testing.assert_close(deviation.double(), expected, rtol=1e-4, atol=1e-6)


def test_training_draws_a_fresh_sample_of_each_posterior(vectors):
    cache = vectors[1]["train"]
    batches = list(train_latents(cache, 0, 50, range(8)))  # two passes over 200 images
    again = list(train_latents(cache, 0, 50, range(4, 8)))
    assert torch.equal(batches[5]["latents"], again[1]["latents"])  # wherever it starts
    halves = [next(train_latents(cache, 0, 50, range(1), part=(number, 2))) for number in (0, 1)]
    assert torch.equal(torch.cat([half["latents"] for half in halves]), batches[0]["latents"])
    drawn = torch.cat([batch["latents"] for batch in batches])
    whole = cache.batch(range(200))
    # All draws lie about their means, as far as their deviations say.
    first, second = drawn[:200].sum(), drawn[200:].sum()
    assert first != second
    spread = float((drawn[:200].flatten(0, 1).var(0) + drawn[200:].flatten(0, 1).var(0)).mean()) / 2
    expected = float(cache.channel_statistics[1].square().mean())
    assert spread == pytest.approx(expected, rel=0.1)
    assert set(whole) == {"latents", "deviations", "labels"}


def test_a_family_that_draws_vectors_is_sampled_scored_and_compared(vectors, tmp_path, fashion_root):
    tokenizer, _, run = vectors
    generator = load_generator(run)
    assert isinstance(generator, toy_parts.NormalGenerator) and generator.means.bias.abs().max() > 0
    ids = torch.arange(6)
    whole = generator.sample(ids % 10, ids)
    assert torch.equal(torch.cat([generator.sample(ids[i : i + 1] % 10, ids[i : i + 1]) for i in range(6)]), whole)
    code, said = vistok("sample", run, "--out", tmp_path / "a.png", "--count", 20)
    assert code == 0 and "1 call and" in said
    code, said = vistok("evaluate", "generator", run, "--count", 50, "--data", fashion_root)
    assert code == 0 and "gFMD" in said and "no likelihood" in said and "cost: 1 call" in said
    (file,) = (run / "evaluations").glob("generator-*.json")
    found = read_evaluation(file)
    assert found["treatment"]["sampling"] == {"kind": "toy_normal", "guidance_scale": 1.0, "seed": 0}
    cost = cost_in(found)
    assert cost.calls == 1 and cost.images == 50 and cost.milliseconds > 0 and cost.flops_per_image > 1e5
    with pytest.raises(UserError, match="--temperature: toy_normal generators do not support it"):
        vistok("sample", run, "--out", tmp_path / "b.png", "--temperature", 0.5)
    code, said = vistok("evaluate", "tokenizer", tokenizer, "--data", fashion_root)
    assert code == 0 and "PSNR" in said and "codes" not in said
    copied = tmp_path / "copied"
    shutil.copytree(run, copied)
    code, said = vistok("compare", run, copied)
    assert code == 0 and "1 call and" in said


def test_an_autoregressive_generator_refuses_vectors(vectors, tmp_path):
    tokenizer, caches, _ = vectors
    with pytest.raises(
        UserError, match="writes tokens, but these latents are 7x7 vectors of 4 numbers; use a tokenizer"
    ):
        train_generator.prepare(find_recipe("debug_ar"), caches["train"], caches["val"], tokenizer, tmp_path)


def test_another_mixer_trains_and_samples_as_it_was_trained(house):
    torch.manual_seed(0)
    config = AutoregressiveConfig(
        width=32, depth=2, num_heads=2, ffn_multiple=16, dropout=0.0, mixer=toy_parts.AverageConfig()
    )
    assert AutoregressiveConfig.from_json(config.to_json()) == config
    model = AutoregressiveGenerator(config, token_grid(3, 4, 20), 5).eval()
    torch.nn.init.normal_(model.head.weight, std=0.5)
    labels, greedy = torch.arange(5), AutoregressiveSampling(temperature=0.0)
    tokens = model.sample(labels, sampling=greedy)
    assert torch.equal(model.logits(tokens, labels).argmax(-1), tokens)
    assert model.calls(greedy) == 12 and model.sampling_flops(greedy) > 0
    with pytest.raises(UserError, match="int8 is for blocks with softmax attention"):
        model.sampler(AutoregressiveSampling(int8=True))
    with pytest.raises(UserError, match="precision bfloat16-weights is for blocks with softmax attention"):
        model.sampler(AutoregressiveSampling(precision="bfloat16-weights"))


@pytest.mark.slow
def test_a_study_of_vectors_with_a_score_of_its_own(house, fashion_root, tmp_path):
    base = find_recipe("debug_study", "study")
    tokenizer = override(
        base.tokenizer,
        [
            f'data.root="{fashion_root}"', "data.max_images=200", "length=5 steps", "losses.perceptual=null",
            'tokenizer.quantizer={"kind": "toy_gaussian", "dim": 2}',
        ],
    )  # fmt: skip
    main = base.grids[0].replace(
        tokenizers=(Choice(name="none"), Choice(name="shrunk", set=("regularizers.toy_shrink.weight=1",))),
        generators=(Choice(name="n", set=('generator={"kind": "toy_normal"}',)),),
        lengths=(steps(6),),
        seeds=(0,),
    )
    study = base.replace(
        tokenizer=tokenizer, grids=(main,), scoring=base.scoring.replace(samples=40, search_samples=40, scales=(1.0,))
    )
    folder = StudyFolder(tmp_path / "results")
    for task in expand(study):
        perform(make_order(task, study, tmp_path / "runs", folder.path, 1))
    table, left_out = collect(folder, study)
    assert len(table) == 4 and not left_out
    generators = table[table.kind == "generator"]
    assert generators.toy_brightness.notna().all() and (generators.calls == 1).all()
    assert generators.gfmd.notna().all() and generators.val_nats_per_token.isna().all()
    assert table[table.kind == "tokenizer"].codebook_usage.isna().all()
    page = write_report(study, folder).read_text()  # and read again, with a column that no earlier version knew
    assert "toy_brightness" in folder.table.read_text() and page.startswith("<!doctype html>")
    assert read_table(folder.table).toy_brightness.notna().sum() == 2


def test_every_average_is_exported_by_its_name(vectors, tmp_path, quiet, monkeypatch):
    """An objective of two networks: what the run is of, and a critic beside it."""
    from vistok.engine.weights import load_weights

    class WithCritic(toy_parts.MeanError):
        averaged = ("generator", "critic")

        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.networks["critic"] = torch.nn.Linear(2, 1)

        def phases(self, scale, world=None):
            (phase,) = super().phases(scale)
            phase.modules = [*phase.modules, self.networks["critic"]]
            return [phase]

    monkeypatch.setattr(toy_parts, "MeanError", WithCritic)
    tokenizer, caches, _ = vectors
    config = override(
        find_recipe("debug_ar"),
        ['generator={"kind": "toy_normal"}', "length=3 steps", "seed=5", "execution.milestones=[3]"],
    )
    run = train_generator.prepare(config, caches["train"], caches["val"], tokenizer, tmp_path).train(quiet)
    names = {path.name for path in (run.path / "export").iterdir()}
    assert names == {"model.safetensors", "raw.safetensors", "critic-ema.safetensors", "critic-raw.safetensors"}
    assert load_weights(run.export("critic-ema"))[1]["model"] == "critic"
    digests = run.read("finished.json")["digests"]
    assert set(digests) == {"ema", "raw", "critic-ema", "critic-raw"}
    run.export("critic-ema").unlink()  # what is gone is written again
    again = train_generator.prepare(config, caches["train"], caches["val"], tokenizer, tmp_path).train(quiet)
    assert again.export("critic-ema").is_file() and again.read("finished.json")["digests"] == digests


def test_spaces_are_read_as_they_are_written_and_as_earlier_versions_wrote_them(toy_runs):
    for space in (
        token_grid(3, 4, 10),
        Vectors(layout=Line(length=32), dim=8),
        Tokens(layout=Line(length=5), codebook_size=2),
    ):
        assert type(space).from_json(space.to_json()) == space and hash(space) is not None
    assert str(Vectors(layout=Grid(height=2, width=3, frames=4), dim=5)) == "4 frames of 2x3 vectors of 5 numbers"
    cache = toy_runs[1]["train"]
    former = json.loads(cache.manifest.to_json())
    former |= {"grid": [7, 7], "codebook_size": 64}
    former.pop("space")
    assert type(cache.manifest).from_json(json.dumps(former)) == cache.manifest
    assert LatentCache(cache.folder).manifest.space == token_grid(7, 7, 64)


def test_former_places_of_settings_and_their_names():
    from vistok.config import fingerprint, science

    plain, crt = find_recipe("debug_vq"), find_recipe("debug_crt")
    assert override(plain, ["crt.weight=2"]) == override(plain, ["regularizers.causal.weight=2"])
    without = override(crt, ["regularizers.causal=null"])
    assert override(crt, ["crt=null"]) == without == plain.replace(name=crt.name, recipe=crt.recipe)
    former = {**science(crt)}
    assert former["crt"]["width"] == 16 and "regularizers" not in former and science(plain)["crt"] is None
    written = json.loads(crt.to_json())
    causal = written.pop("regularizers")[0]
    causal.pop("kind")
    assert TokenizerRun.from_json(json.dumps(written | {"crt": causal})) == crt
    assert fingerprint(TokenizerRun.from_json(json.dumps(written | {"crt": None}))) == fingerprint(plain)
    ar = find_recipe("debug_ar")
    written = json.loads(ar.to_json())
    written["generator"].pop("z_loss"), written["generator"].pop("kind"), written["generator"].pop("mixer")
    assert GeneratorRun.from_json(json.dumps(written | {"z_loss": 1e-4})) == override(ar, ["z_loss=1e-4"])
    assert science(override(ar, ["z_loss=1e-4"]))["z_loss"] == 1e-4 and "z_loss" not in science(ar)
    with pytest.raises(UserError, match="'nonsense' is not one of causal"):
        override(plain, ["regularizers.nonsense.weight=2"])
    with pytest.raises(UserError, match="kind 'diffusion' is not one of autoregressive"):
        override(ar, ['generator={"kind": "diffusion"}'])


def test_noise_of_vectors_is_normal_and_no_batchs():
    ids = torch.arange(2000)
    noise = normal_grid(0, ids, 3, (5, 4))
    assert torch.equal(normal_grid(0, ids[100:110], 3, (5, 4)), noise[100:110])
    assert torch.equal(normal_grid(0, ids[:3], torch.tensor([3, 4, 3]), (5, 4))[[0, 2]], noise[[0, 2]])
    assert not torch.equal(normal_grid(0, ids, 4, (5, 4)), noise)
    values = noise.double().flatten()
    assert abs(float(values.mean())) < 0.02 and abs(float(values.var()) - 1) < 0.03
    assert abs(float((values**4).mean()) - 3) < 0.15 and normal_grid(0, ids, 0, (3,)).shape == (2000, 3)
    assert abs(float(torch.corrcoef(noise.flatten(1).T).fill_diagonal_(0).abs().max())) < 0.1


@pytest.fixture(scope="module")
def wide_run(tmp_path_factory, photo_folder, quiet):
    """A tokenizer of pictures of 16x24 pixels, its caches of ten crops, and a generator."""
    runs = tmp_path_factory.mktemp("wide")
    config = override(
        find_recipe("debug_vq"),
        [
            f'data.root="{photo_folder}"', 'data.dataset="folder"', "data.channels=3", "tokenizer.in_channels=3",
            "losses.perceptual=null", "data.image_size=16", "data.image_width=24", "tokenizer.image_size=16",
            "tokenizer.image_width=24", "length=3 steps", "data.crop_scale=0.8",
        ],
    )  # fmt: skip
    tokenizer = train_tokenizer.prepare(config, runs).train(quiet).path
    caches = {split: cache_tokens(tokenizer, split, quiet, views=("ten-crop",)) for split in ("train", "val")}
    config = override(find_recipe("debug_ar"), ["length=3 steps"])
    job = train_generator.prepare(config, caches["train"], caches["val"], tokenizer, runs)
    return tokenizer, caches, job.train(quiet).path


def test_images_need_not_be_square(wide_run, tmp_path, photo_folder):
    run, caches, generator = wide_run
    tokenizer = load_tokenizer(run)
    assert tokenizer.space.layout == grid(4, 6) and caches["train"].latents.shape[1:] == (24,)
    images = torch.rand(2, 3, 16, 24) * 2 - 1
    assert tokenizer.decode(tokenizer.encode(images)).shape == images.shape
    with pytest.raises(UserError, match=r"takes \(batch, 3, height, width\) with height and width 16x24"):
        tokenizer.encode(images[..., :18])
    twice = tokenizer.resized(32)
    assert twice.config.sides == (32, 48) and twice.space.layout == grid(8, 12)
    code, said = vistok("sample", generator, "--out", tmp_path / "a.npz", "--format", "npz", "--count", 6)
    assert code == 0 and np.load(tmp_path / "a.npz")["arr_0"].shape == (6, 16, 24, 3)
    code, said = vistok("evaluate", "generator", generator, "--count", 20, "--evaluator", "imagenet", "--split", "val")
    assert code == 0 and "gFMD" in said
    code, said = vistok("evaluate", "tokenizer", run, "--evaluator", "imagenet", "--split", "val", "--image-size", 32)
    assert code == 0 and "PSNR" in said
    picture = next((photo_folder / "waves").iterdir())
    assert vistok("reconstruct", picture, "--tokenizer", run, "--out", tmp_path / "r.png")[0] == 0


def test_a_crop_is_the_largest_of_its_shape():
    from vistok.data.config import DataConfig
    from vistok.data.images.transforms import prepare

    config = DataConfig(dataset="folder", image_size=20, image_width=40, channels=1)
    tall = np.repeat(np.arange(90, dtype=np.uint8)[:, None, None], 60, axis=1)  # rows are numbered
    found = prepare(tall, config, None)
    assert found.shape == (20, 40, 1) and (found[:, 0] == found[:, -1]).all()
    assert 30 <= found[0, 0, 0] <= 32 and 57 <= found[-1, 0, 0] <= 59  # the middle 30 rows of all 60 columns
    with pytest.raises(UserError, match="fashion_mnist has square images"):
        DataConfig(image_width=40)
