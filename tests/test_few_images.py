"""A distance between few images comes with a warning."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from vistok.cli.evaluate import _extractor_of_tokenizer
from vistok.errors import UserError
from vistok.origin import Origin
from vistok.scoring.few_images import few_images_warnings


def scores(name, metric, samples, reference):
    protocol = {"metric": metric, "num_samples": samples, "num_reference": reference, "reference": "folder val"}
    return {
        "psnr": {"protocol": {**protocol, "metric": "PSNR (dB)"}},
        name: {"value": 1.0, "protocol": protocol},
        "run": "x",
    }


@pytest.mark.parametrize(
    ("found", "features", "words"),
    [
        (scores("rfmd", "rFMD", 9, 9), 64, "rFMD rests on 9 reference images (folder val): with 64 features, fewer than 1,000"),
        (scores("rfmd", "rFMD", 1, 1), 64, "rests on 1 reference image (folder val):"),
        (scores("gfmd", "gFMD", 200, 1_200), 1_280, "on 1,200 reference images (folder val) and 200 images scored: with 1,280"),
        (scores("gfmd", "gFMD", 5_000, 1_200), 1_280, "rests on 1,200 reference images (folder val): with"),
        (scores("fid", "FID", 1_999, 0), 2_048, "FID rests on 1,999 images scored: with 2,048"),  # statistics alone
        (scores("gfmd", "gFMD", 5_000, 10_000), 64, None),
        (scores("fid", "FID", 10_000, 0), 2_048, None),
        (scores("nats", "nats per token", 3, 3), 64, None),
    ],
)  # fmt: skip
def test_few_images_are_told(found, features, words):
    said = few_images_warnings(found, features)
    assert said == [] if words is None else len(said) == 1 and words in said[0]


def test_a_single_picture_is_scored_without_distances(monkeypatch):
    """Unless a network for them was named: then the command says why it cannot do what was asked for."""
    network, tokenizer = SimpleNamespace(digest="of a network", name="network"), SimpleNamespace(info=Origin())
    monkeypatch.setattr("vistok.runs.load.load_tokenizer", lambda run: tokenizer)
    monkeypatch.setattr("vistok.runs.run_images.data_of", lambda of, root: SimpleNamespace(dataset="folder"))
    monkeypatch.setattr("vistok.scoring.evaluators.choose_evaluator", lambda *given: network)
    monkeypatch.setattr("vistok.data.images.open.open_split", lambda data, split: range({"test": 1, "train": 3}[split]))
    assert _extractor_of_tokenizer(Path("run"), None, None, None, "train") == (network, None)
    extractor, why = _extractor_of_tokenizer(Path("run"), None, None, None, "test")
    assert extractor is None and "split 'test' of folder has 1 image" in why
    with pytest.raises(UserError, match="has 1 image"):
        _extractor_of_tokenizer(Path("run"), "imagenet", None, None, "test")
    # Nor does one that was in the tokenizer's loss keep the rest from being measured.
    monkeypatch.setattr("vistok.runs.frozen_networks.digests_in_losses", lambda origin: {"of a network"})
    extractor, why = _extractor_of_tokenizer(Path("run"), None, None, None, "train")
    assert extractor is None and "must not score it; use another one: --evaluator RUN" in why
    with pytest.raises(UserError, match="must not score it"):
        _extractor_of_tokenizer(Path("run"), "imagenet", None, None, "train")
