"""Runs from Python: trained on arrays, found, looked at, drawn from, and taken by the command line."""

import io
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from typer.testing import CliRunner

import vistok
from vistok.engine.weights import load_weights, save_weights
from vistok.errors import UserError

CLASSES = ["waves/sea", "bars"]
LABELS = np.arange(120) % 2


def drawn() -> np.ndarray:
    """Grey images of two kinds."""
    random, (y, x) = np.random.default_rng(0), np.mgrid[:28, :28] / 4.0
    patterns = [np.sin(x + y), np.sign(np.sin(x))]
    return np.stack([127 + 120 * np.sin(patterns[label] + random.uniform(0, 6)) for label in LABELS]).astype(np.uint8)


IMAGES = drawn()


def train(folder: Path, **changes) -> "vistok.python.run.Run":
    return vistok.train(IMAGES, LABELS, "debug_vq", classes=CLASSES, runs=folder, quiet=True, **changes)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("python") / "runs"


@pytest.fixture(scope="module")
def tokenizer(runs):
    return train(runs, set={"length": "20 steps", "execution.evaluate_every": 10})


@pytest.fixture(scope="module")
def generator(runs, tokenizer):
    return vistok.train(recipe="debug_ar", tokenizer=tokenizer, runs=runs, quiet=True)


def pixels(images) -> np.ndarray:
    return np.asarray(images)


def test_a_run_says_what_it_is(tokenizer, generator, runs):
    assert (tokenizer.kind, tokenizer.state, tokenizer.step, tokenizer.name) == (
        "tokenizer", "finished", 20, tokenizer.path.name,
    )  # fmt: skip
    assert tokenizer.config.length.value == 20 and generator.config.generator.depth == 2
    assert tokenizer.main_score.metric == "PSNR (dB)" and tokenizer.page.is_file()
    for run in (tokenizer, generator):
        assert len(repr(run).splitlines()) == 1 and run.name in repr(run) and run.state in repr(run)
        assert run.name in run._repr_html_() and "data:image/png" in run._repr_html_()
        assert Image.open(io.BytesIO(run._repr_png_())).width > 100
    assert tokenizer.path.parent == runs.absolute()


def test_the_same_arguments_are_the_same_run(tokenizer, runs):
    export = (tokenizer.path / "export/model.safetensors").stat().st_mtime_ns
    again = train(runs, set=["length=20 steps", "execution.evaluate_every=10"])
    assert again.path == tokenizer.path
    assert (tokenizer.path / "export/model.safetensors").stat().st_mtime_ns == export


@pytest.mark.slow
def test_a_stopped_run_goes_on_exactly(tmp_path, tokenizer, monkeypatch):
    """Stopped after its first step, as by Ctrl-C or a notebook's stop button, then called again."""
    import vistok.engine.loop

    class Stopping(vistok.engine.loop.StopRequest):
        def __enter__(self):
            self.requested = True
            return self

    same = {"length": "20 steps", "execution.evaluate_every": 10}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="after step 1 of 20.*same arguments"):
        patch.setattr("vistok.engine.loop.StopRequest", Stopping)
        train(tmp_path, set=same)
    assert vistok.run("latest", runs=tmp_path).state == "stopped"
    resumed = train(tmp_path, set=same)
    assert resumed.name == tokenizer.name
    ours, theirs = (load_file(run.path / "export/model.safetensors") for run in (resumed, tokenizer))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_curves_are_rows_by_step(tokenizer):
    curves = tokenizer.curves("validation")
    assert curves.step.tolist() == [0, 10, 20] and curves.psnr.notna().all()
    assert set(tokenizer.curves().kind) >= {"train", "validation"}
    assert tokenizer.curves("train").notna().all(axis=None)
    with pytest.raises(UserError, match="'loss': rows are of the kinds train, validation, alarm"):
        tokenizer.curves("loss")


def test_classes_are_chosen_by_name_or_number(generator):
    by_name = generator.sample("bars", 3, quiet=True)
    for labels in ([1, 1, 1], np.array([1, 1, 1]), torch.tensor([1, 1, 1]), ["bars"] * 3, [1, "bars", np.int64(1)]):
        np.testing.assert_array_equal(pixels(generator.sample(labels, quiet=True)), pixels(by_name))
    assert by_name.labels == ("bars",) * 3
    assert generator.sample("waves/sea", 2, quiet=True).labels == ("waves/sea",) * 2
    assert generator.sample(1, quiet=True).labels == ("bars",) * 10
    assert generator.sample(quiet=True).labels == tuple(CLASSES) * 20
    assert generator.sample([1, 0], count=5, quiet=True).labels == ("bars", "waves/sea", "bars", "waves/sea", "bars")


def test_samples_depend_on_seed_and_sampling(generator):
    plain, again, other = (pixels(generator.sample(count=6, seed=seed, quiet=True)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(plain, again)
    assert plain.shape == (6, 28, 28, 1) and not np.array_equal(plain, other)
    greedy = pixels(generator.sample([0, 0], temperature=0.0, quiet=True))
    np.testing.assert_array_equal(greedy[0], greedy[1])
    assert not np.array_equal(pixels(generator.sample(count=6, guidance=3.0, quiet=True)), plain)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda t, g: g.sample("cats"), "unknown class 'cats'; there are 2: 0 waves/sea, 1 bars"),
        (lambda t, g: g.sample([7]), "unknown class '7'"),
        (lambda t, g: g.sample([0.5]), "label 0.5: give class names or numbers"),
        (lambda t, g: g.sample([]), "labels: an empty list"),
        (lambda t, g: g.sample(count=0), "count 0: give at least 1"),
        (lambda t, g: g.sample(temprature=1), "temprature: autoregressive generators are drawn from by guidance_scale"),
        (lambda t, g: t.sample(), "is a tokenizer's, but this needs a generator's"),
        (lambda t, g: t.generator(), "is a tokenizer's, but this needs a generator's"),
        (lambda t, g: t.reconstruct(IMAGES / 255.0), "float64 from 0"),
        (lambda t, g: t.reconstruct("nowhere/"), "images nowhere: not found"),
        (lambda t, g: vistok.run("nothing", runs=t.path.parent), "no run 'nothing'"),
        (lambda t, g: vistok.run(t.path / "export/model.safetensors"), "a file of weights, not a run"),
        (lambda t, g: vistok.train(IMAGES, recipe="debug_ar", tokenizer=t), "learns the images of its tokenizer"),
        (lambda t, g: vistok.train(recipe="debug_ar"), "name the run of its tokenizer"),
        (lambda t, g: vistok.train(recipe="debug_ar", tokenizer=3), "tokenizer of type int; give a run"),
        (lambda t, g: vistok.train(IMAGES, recipe="debug_vq", tokenizer=t), "are for generators' recipes"),
        (lambda t, g: vistok.train("photos/", LABELS), "a folder's classes are its sub-folders"),
        (lambda t, g: vistok.train(recipe="images64_vq"), "is for images of your own"),
        (lambda t, g: vistok.train(IMAGES, recipe="debug_study"), "debug_study"),
        (lambda t, g: vistok.train(IMAGES, recipe="images64_qv"), "Did you mean 'images64_vq'"),
        (lambda t, g: vistok.train(IMAGES, set={"lenght": "3 steps"}), "Did you mean 'length'"),
        (lambda t, g: vistok.runs("nowhere"), "there is no folder nowhere"),
    ],
)  # fmt: skip
def test_mistakes_are_sentences(tokenizer, generator, call, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=sentence):
        call(tokenizer, generator)
    assert not list(tmp_path.iterdir())


def test_reconstructions_of_anything(tokenizer, generator, tmp_path):
    direct = tokenizer.reconstruct(IMAGES[:4])
    np.testing.assert_array_equal(direct.originals[:, 0].numpy(), IMAGES[:4])
    assert direct.psnr.shape == (4,) and len(tokenizer.reconstruct()) == 10
    colour = [Image.fromarray(image).convert("RGB") for image in IMAGES[:4]]
    np.testing.assert_array_equal(pixels(generator.reconstruct(colour)), pixels(direct))
    colour[0].save(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels(tokenizer.reconstruct(tmp_path))[0], pixels(direct)[0])
    np.testing.assert_array_equal(pixels(tokenizer.reconstruct(colour[0]))[0], pixels(direct)[0])


def test_latents_are_a_data_set(tokenizer, generator):
    latents = vistok.tokens(generator, quiet=True)
    tokens, label = latents[5]
    assert len(latents) == 96 and tokens.shape == latents.space.shape and tokens.dtype == torch.int64
    assert latents.classes == tuple(CLASSES) and latents.labels[5] == label and isinstance(label, int)
    assert torch.equal(latents[-1][0], latents[95][0]) and "96 images" in repr(latents)
    with pytest.raises(IndexError):
        latents[96]
    batch, labels = next(iter(DataLoader(latents, batch_size=7)))
    assert batch.shape == (7, *latents.space.shape) and labels.tolist() == latents.labels[:7].tolist()
    test = vistok.tokens(tokenizer, "test", quiet=True)
    decoded = tokenizer.tokenizer().decode(test[0][0][None])
    assert len(test) == 12 and decoded.shape == (1, 1, 28, 28)


def test_latents_of_vectors_and_views(runs):
    vectors = train(runs, set={"tokenizer.quantizer": {"kind": "kl", "dim": 4}, "length": "5 steps"})
    latents = vistok.tokens(vectors, "val", views=["center", "flip"], quiet=True)
    assert len(latents) == 24 and latents[0][0].shape == latents.space.shape and latents[0][0].dtype == torch.float32
    assert latents.labels[:4].tolist() == np.repeat(latents.cache.labels[:2], 2).tolist()


def test_all_runs_as_a_table(tokenizer, generator, runs):
    table = vistok.runs(runs)
    assert isinstance(table, pd.DataFrame) and {tokenizer.name, generator.name} <= set(table.index)
    assert table.loc[tokenizer.name, ("kind", "")] == "tokenizer" and table["state"].notna().all()
    assert table["recipe"][generator.name] == "debug_ar"
    assert not any(name.startswith("images-") for name in table.index)


def test_runs_are_found_by_name_and_age(tokenizer, generator, runs):
    assert vistok.run(tokenizer.name[-6:], runs=runs).path == tokenizer.path
    assert vistok.run("debug-ar", runs=runs).path == generator.path
    assert vistok.run(generator.path).name == generator.name and vistok.run(generator) is generator
    assert vistok.run("latest", kind="generator", runs=runs).kind == "generator"


def test_a_run_on_arrays_is_a_run_for_the_command_line(tokenizer, generator, tmp_path, monkeypatch):
    """Its images are found from any folder."""
    from vistok import cli

    def command(*arguments):
        done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
        assert done.exit_code == 0, (done.output, done.exception)
        return done.output

    monkeypatch.chdir(tmp_path)
    assert "12 images" in command("cache", tokenizer.path, "--split", "test")
    assert "PSNR" in command("evaluate", "tokenizer", tokenizer.path)
    command("sample", generator.path, "--class", "bars", "--count", 2, "--out", "s.png")
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.height > 28


def test_a_classifier_from_arrays_is_an_evaluator(runs, tokenizer):
    evaluator = vistok.train(IMAGES, LABELS, "debug_classifier", classes=CLASSES, runs=runs, quiet=True)
    assert evaluator.kind == "classifier" and evaluator.load()(torch.zeros(2, 1, 28, 28)).shape == (2, 2)
    scores = vistok.score(tokenizer, evaluator=evaluator, quiet=True)
    assert scores.protocol.extractor == "debug-classifier" and scores.metric == "rFMD"
    with pytest.raises(UserError, match="is a classifier's: it scores others"):
        vistok.score(evaluator)


def test_alarms_are_told_once(tokenizer, runs, capsys):
    run = vistok.train(recipe="debug_ar", tokenizer=tokenizer, set={"optimizer.lr": 1e-9}, runs=runs, quiet=True)
    assert [alarm.name for alarm in run.alarms] == ["learned_nothing"] and "optimizer.lr" in run.alarms[0].words
    assert "learned_nothing" in repr(run) and "learned_nothing" in run._repr_html_()
    told = []
    for _ in range(2):
        run.sample(count=2)
        told.append(capsys.readouterr().err.count("learned_nothing"))
    assert told == [1, 0]


def test_a_dead_run_is_not_fine_tuned_unasked(tokenizer, runs, tmp_path):
    dead = tmp_path / "dead"
    shutil.copytree(tokenizer.path, dead)
    for file in (dead / "export").glob("*.safetensors"):
        state, header = load_weights(file)
        alarm = {"name": "blind", "value": 0.0, "found": "all are grey", "advice": "Train it again", "dead": True}
        save_weights(file, state, {**header, "health": {"alarms": [alarm], "validation": {}}})
    with pytest.raises(UserError, match="blind"):
        train(runs, init_from=dead, set={"length": "2 steps"}, name="tuned")
    assert train(runs, init_from=dead, set={"length": "2 steps"}, name="anyway", anyway=True).path.is_dir()


def test_fine_tuning_takes_a_run_or_a_name(tokenizer, runs):
    tuned = train(runs, init_from=tokenizer, set={"length": "2 steps"}, name="tuned")
    assert tuned.name.startswith("tuned-") and tuned.config.init_from == str(tokenizer.path)
    by_name = train(runs, init_from=tokenizer.name, set={"length": "2 steps"}, name="tuned")
    assert by_name.path == tuned.path
