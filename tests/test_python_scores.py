"""Scores from Python: of images, runs and any network, in protocols that can be compared, and never in others."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import vistok
from test_python_runs import CLASSES, IMAGES, LABELS
from vistok.errors import UserError
from vistok.python.scores import read_scores
from vistok.scoring.evaluate_generator import usual_count
from vistok.study.findings.outside import outside_lines, outside_of
from vistok.study.run.record import StudyFolder

REPOSITORY = Path(__file__).resolve().parent.parent


class Means(nn.Module):
    """Keeps the mean of each block of 4 x 4 pixels; latents may be anything."""

    def encode(self, images):
        assert not self.training and images.min() >= -1 and images.max() <= 1
        return {"means": nn.functional.avg_pool2d(images, 4)}

    def decode(self, latents):
        return nn.functional.interpolate(latents["means"], scale_factor=4)


class Noise(nn.Module):
    """Draws noise, whose brightness is the class."""

    def sample(self, labels):
        return torch.rand(len(labels), 1, 28, 28) - labels[:, None, None, None].float()


def changed(method: str, function) -> nn.Module:
    return type("Changed", (Noise if method == "sample" else Means,), {method: lambda self, x: function(x)})()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    runs = tmp_path_factory.mktemp("scores") / "runs"
    return vistok.train(IMAGES, LABELS, "debug_vq", {"length": "10 steps"}, classes=CLASSES, runs=runs, quiet=True)


@pytest.fixture(scope="module")
def generator(tokenizer):
    runs = tokenizer.path.parent
    return vistok.train(recipe="debug_ar", tokenizer=tokenizer, set={"length": "10 steps"}, runs=runs, quiet=True)


@pytest.fixture(scope="module")
def of_run(tokenizer):
    return vistok.score(tokenizer, split="train", quiet=True)


@pytest.fixture(scope="module")
def of_means(tokenizer):
    return vistok.score(Means(), tokenizer, split="train", quiet=True)


def test_a_run_is_scored_and_keeps_it(tokenizer, of_run):
    low, high = of_run.interval
    assert of_run.metric == "rFMD" and low < of_run.value < 2 * high and of_run.protocol.num_reference == 96
    assert list(of_run)[:2] == ["psnr", "ssim"] and of_run["PSNR"].value == of_run["psnr"].value
    scores = tokenizer.scores()
    assert scores.set_index("metric").value["rFMD"] == of_run.value and len(scores) == len(of_run.all)
    assert vistok.score(tokenizer, split="train", quiet=True).value == of_run.value  # read, not repeated


def test_a_network_is_scored_by_the_protocol_of_a_run(tokenizer, of_run, of_means):
    for metric in ("psnr", "ssim", "rfmd", "rkmd"):
        assert of_means[metric].protocol == of_run[metric].protocol
    assert of_means.value != of_run.value and of_means.name == "Means" and of_means.treatment.weights == "none"
    same = vistok.score(tokenizer.tokenizer(), tokenizer, split="train", quiet=True)
    assert same.value == of_run.value and same["psnr"].value == of_run["psnr"].value


@pytest.mark.slow
def test_a_network_that_samples_is_scored_by_the_protocol_of_a_run(tokenizer, generator):
    ours = vistok.score(generator, count=50, quiet=True)
    theirs = vistok.score(Noise(), tokenizer, count=50, quiet=True)
    assert ours.metric == theirs.metric == "gFMD" and ours.protocol == theirs.protocol
    again = vistok.score(Noise(), generator, count=50, batch_size=100, quiet=True)
    assert again.value == theirs.value  # torch's random numbers begin at the seed
    assert vistok.score(Noise(), generator, count=50, seed=1, quiet=True).value != theirs.value
    direct = vistok.score(generator.generator(), tokenizer, count=50, quiet=True)
    assert direct.protocol == ours.protocol and direct.value == pytest.approx(ours.value, rel=1e-6)
    assert direct.treatment == ours.treatment


def test_images_are_scored_in_any_form(tmp_path, tokenizer):
    first, second = IMAGES[:24], IMAGES[30:54]
    plain = vistok.score(first, second, quiet=True)
    assert plain.metric == "FMD" and plain.protocol.reference == "array" and plain.protocol.num_samples == 24
    assert vistok.score(torch.from_numpy(first), list(second), quiet=True).value == plain.value
    np.savez(tmp_path / "first.npz", arr_0=first[..., None])
    assert vistok.score(tmp_path / "first.npz", second, quiet=True).value == plain.value
    assert vistok.score(first, first, quiet=True).value == pytest.approx(0, abs=1e-6)
    with_run = vistok.score(first, tokenizer, quiet=True)
    assert with_run.protocol.reference == "webdataset test" and with_run.metric == "FMD"


@pytest.mark.slow
def test_labels_of_given_images_decide_their_protocol(tokenizer, generator):
    even = vistok.score(IMAGES[:50], tokenizer, labels=LABELS[:50], quiet=True)
    assert even.metric == "gFMD" and even.protocol == vistok.score(generator, count=50, quiet=True).protocol
    odd = vistok.score(IMAGES[:50], tokenizer, labels=np.zeros(50, int), quiet=True)
    assert odd.protocol.labels == "given: 50 0 by class"


def test_few_images_are_warned_of_and_have_no_interval(tokenizer, capsys):
    scores = vistok.score(Means(), tokenizer)
    assert scores.interval is None and scores["psnr"].low is None
    assert any("rests on 12 reference images" in line for line in scores.warnings)
    assert "warning: rFMD rests on 12 reference images" in capsys.readouterr().err
    assert "12 reference images" in scores._repr_html_()


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (lambda: nn.Linear(1, 1), r"Linear has neither sample\(labels\) nor encode"),
        (lambda: changed("decode", lambda z: z), "Changed.decode returns type dict"),
        (lambda: changed("decode", lambda z: z["means"][0]), r"Changed.decode returns the shape \(1, 7, 7\)"),
        (lambda: changed("decode", lambda z: z["means"].repeat(1, 3, 1, 1)), "3 channels for images with 1"),
        (lambda: changed("decode", lambda z: 1 / 0), "Changed.decode failed on its own latents .ZeroDivisionError"),
        (
            lambda: changed("encode", lambda x: x.view(3)),
            r"Changed.encode failed on torch.float32 of shape \(96, 1, 28",
        ),
        (lambda: changed("decode", lambda z: z["means"] * 255), "values from .* wanted floats in"),
        (lambda: changed("decode", lambda z: z["means"] * torch.nan), "values from nan to nan"),
        (lambda: changed("sample", lambda y: y), "Changed.sample returns the shape"),
        (lambda: changed("sample", lambda y: torch.zeros(1, 1, 28, 28)), "for a batch of 50"),
        (lambda: changed("sample", lambda y: torch.zeros(len(y), 1, 28, 28).long()), "returns torch.int64"),
        (lambda: type("Both", (Noise, Means), {})(), "can sample and encode; say which"),
    ],
)
def test_other_networks_are_refused_by_name(tokenizer, network, sentence):
    with pytest.raises(UserError, match=sentence):
        vistok.score(network(), tokenizer, split="train", count=50, quiet=True)


def test_a_network_that_can_do_both_is_told_what_to_do(tokenizer):
    both = type("Both", (Noise, Means), {})().train()
    assert vistok.score(both, tokenizer, of="samples", count=20, quiet=True).metric == "gFMD"
    assert vistok.score(both, tokenizer, of="reconstructions", quiet=True).metric == "rFMD"
    assert both.training


def test_a_range_from_zero_is_noticed(tokenizer):
    bright = vistok.score(changed("sample", lambda y: torch.rand(len(y), 1, 28, 28)), tokenizer, count=20, quiet=True)
    assert any("return 2 * x - 1" in line for line in bright.warnings)
    decoded = vistok.score(changed("decode", lambda z: torch.rand(12, 1, 28, 28)), tokenizer, quiet=True)
    assert any("below 0" in line for line in decoded.warnings)
    assert not any("below 0" in line for line in vistok.score(Means(), tokenizer, quiet=True).warnings)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (lambda run: (IMAGES,), "reference: say what to compare with"),
        (lambda run: (IMAGES / 255.0, IMAGES), "float64 from 0"),
        (lambda run: (IMAGES[:, :20], IMAGES), r"samples are \(20, 28\), reference array is \(28, 28\)"),
        (lambda run: (Noise(), IMAGES), "classes to draw are unknown; give labels="),
        (lambda run: (IMAGES, run, 3), "classifier of type int; give a run"),
        (lambda run: (IMAGES[:1], IMAGES), "samples array has 1 image"),
        (lambda run: ("nowhere", IMAGES), "no run 'nowhere'"),
    ],
)
def test_what_cannot_be_scored_is_a_sentence(tokenizer, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        vistok.score(*arguments(tokenizer), quiet=True)


def test_scores_are_kept_in_a_file_that_cannot_be_edited_unnoticed(tmp_path, of_means):
    file = of_means.save(tmp_path / "means")
    found = read_scores(file)
    assert file.name == "means.json" and found.all == of_means.all and found.name == "Means"
    content = json.loads(file.read_text())
    content["scores"][0]["low"] -= 1
    file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="low"):
        read_scores(file)
    file.write_text("{}")
    with pytest.raises(UserError, match="not a file of Scores.save"):
        read_scores(file)


def test_scores_are_shown_with_their_protocol(of_means):
    assert re.match(
        r"Means: rFMD [\d.]+ \([\d.]+ to [\d.]+\); 96 images against 96 of webdataset train", repr(of_means)
    )
    assert "efficientnet-lite0" in of_means._repr_html_() and isinstance(of_means.table(), pd.DataFrame)
    with pytest.raises(KeyError, match="no score 'psnrr'.*Did you mean 'psnr'"):
        of_means["psnrr"]


def test_runs_and_networks_are_compared(tokenizer, of_run, of_means, tmp_path):
    found = vistok.compare(tokenizer, of_means)
    assert [row.scores[1] is not None for row in found.rows if row.metric in ("rFMD", "rKMD")] == [True, True]
    assert list(found.table.columns) == [tokenizer.name, "Means"] and list(found.table.index[:2]) == [
        "PSNR (dB)",
        "SSIM",
    ]
    row = found.differences.loc["PSNR (dB)"]
    assert row["value"] == pytest.approx(of_means["psnr"].value - of_run["psnr"].value)
    assert row["low"] < row["value"] < row["high"]
    rows = {row.metric: row for row in found.rows}
    winner = int(row["value"] > 0)
    assert rows["PSNR (dB)"].better == winner  # settled: the difference is of several dB
    assert f"<b>{(of_run, of_means)[winner]['psnr'].value:.3f}</b>" in found._repr_html_()
    assert f"B = {of_means.name}" in repr(found)
    by_file = vistok.compare(tokenizer.path, of_means.save(tmp_path / "m.json"))
    assert by_file.table.equals(found.table)


def test_other_protocols_are_not_compared(tokenizer, generator, of_means):
    other = vistok.score(Means(), IMAGES[:20], name="others", quiet=True)
    with pytest.raises(
        UserError, match="different protocols and cannot be compared.*reference array, not webdataset train"
    ):
        vistok.compare(of_means, other)
    vistok.score(generator, count=20, quiet=True)
    with pytest.raises(UserError, match="share no kind of score"):
        vistok.compare(tokenizer, generator)
    with pytest.raises(UserError, match="two of these are called 'Means'; name one"):
        vistok.compare(of_means, of_means)
    with pytest.raises(UserError, match="give two or more"):
        vistok.compare(of_means)


def test_guided_scores_stay_apart_in_a_line(tokenizer, generator):
    guided = vistok.score(generator, count=20, guidance=2.0, name="guided", quiet=True)
    plain = vistok.score(generator, count=20, name="plain", quiet=True)
    found = vistok.compare(plain, guided)
    row = next(row for row in found.rows if row.metric == "gFMD")
    assert row.treatment == "A: ema weights, guidance 1; B: ema weights, guidance 2"
    assert "guidance 2" in found._repr_html_()


def test_a_table_of_runs_never_mixes_protocols(tokenizer, generator, of_run):
    """Evaluators, references, numbers of samples and guidance are columns of their own."""
    classifier = vistok.train(
        IMAGES,
        LABELS,
        "debug_classifier",
        {"length": "2 steps"},
        classes=CLASSES,
        runs=tokenizer.path.parent,
        quiet=True,
    )
    vistok.score(tokenizer, split="train", evaluator=classifier, quiet=True)
    for options in ({"count": 20}, {"count": 30}, {"count": 20, "guidance": 2.0}):
        vistok.score(generator, **options, quiet=True)
    table = vistok.runs(tokenizer.path.parent)
    of_tokenizer = table.loc[tokenizer.name, "rFMD"].dropna()
    assert len(of_tokenizer) >= 2 and any("debug-classifier" in column for column in of_tokenizer.index)
    assert of_run.value in set(of_tokenizer)
    columns = table.loc[generator.name, "gFMD"].dropna().index
    assert sum("20 samples" in column for column in columns) == 2 and any("guidance 2" in column for column in columns)
    assert table.columns.is_unique
    for metric, protocol in table.columns[9:]:
        assert table[metric][protocol].dtype == float


@pytest.mark.slow
def test_a_network_is_shown_beside_a_study(tmp_path, fashion_root, monkeypatch):
    """With the committed records, whose protocols are those of today."""
    monkeypatch.chdir(REPOSITORY)
    study = tmp_path / "fashion"
    committed = REPOSITORY / "results" / "fashion"
    name = next(path.stem for path in sorted((committed / "tokenizers").iterdir()))
    for part, suffix in (("records", "json"), ("tokenizers", "safetensors")):
        (study / part).mkdir(parents=True)
        shutil.copy(committed / part / f"{name}.{suffix}", study / part)
    scores = vistok.score(Means(), study, name="block means", quiet=True)
    assert scores.add_to_study(study).name == "block means.json"
    (network,) = outside_of(StudyFolder(study))
    assert network.shown("psnr") == scores["psnr"] and network.shown("gfmd") is None
    assert any(line.startswith("| block means | 15.") for line in outside_lines([network]))
    other = vistok.score(Means(), study, split="val", quiet=True)
    with pytest.raises(UserError, match="reference is 'fashion_mnist val' in one and 'fashion_mnist test'"):
        other.add_to_study(study)
    with pytest.raises(UserError, match="it becomes a file name"):
        vistok.python.scores.Scores("../x", scores.all).add_to_study(study)
    with pytest.raises(UserError, match="holds no records of a study"):
        scores.add_to_study(tmp_path)


def test_as_many_samples_are_drawn_as_there_are_images_to_compare_with():
    """Against six pictures, `evaluate generator` drew 10,000 samples, which took half an hour."""
    assert [usual_count(images) for images in (0, 6, 1_000, 3_456, 50_000)] == [10_000, 1_000, 1_000, 3_456, 10_000]
