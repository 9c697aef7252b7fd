"""To the Hugging Face Hub and back, against a stand-in: weights, scores and card; and without a network."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml

from hub_stand_in import Hub
from vistok import from_pretrained
from vistok.data.config import DataConfig
from vistok.data.open import open_split
from vistok.engine.run_dir import RunDir
from vistok.errors import UserError
from vistok.generator.config import SamplingConfig
from vistok.interop import hub as hub_module
from vistok.interop.hub import import_hub, push_to_hub, write_folder
from vistok.interop.hub_card import read_evaluations
from vistok.tasks.evaluate_tokenizer import evaluate_tokenizer
from vistok.tasks.evaluators import choose_evaluator
from vistok.tasks.load import load_generator, load_tokenizer, load_tokenizer_of


@pytest.fixture(scope="module")
def scored(toy_runs, tmp_path_factory, quiet):
    """(tokenizer run with an evaluation, generator run), copies."""
    folder = tmp_path_factory.mktemp("scored")
    bare = shutil.ignore_patterns("evaluations")
    tokenizer, generator = (shutil.copytree(run, folder / run.name, ignore=bare) for run in (toy_runs[0], toy_runs[2]))
    with pytest.MonkeyPatch.context() as patch:
        few = lambda data, split: open_split(data, split).subset(np.arange(300), "few")  # noqa: E731
        patch.setattr("vistok.tasks.evaluate_tokenizer.open_split", few)
        evaluate_tokenizer(tokenizer, choose_evaluator(DataConfig()), quiet, split="val")
    return tokenizer, generator


@pytest.fixture(scope="module")
def hub():
    with Hub() as server:
        yield server


def vistok(hub, home, *arguments):
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(home), "HF_TOKEN": "secret"}
    environment |= {"HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
    return subprocess.run(
        [sys.executable, "-m", "vistok", *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def metadata_of(readme: str) -> dict:
    _, front, _ = readme.split("---\n", 2)
    return yaml.safe_load(front)


def test_a_tokenizer_goes_to_the_hub_and_comes_back(scored, hub, tmp_path):
    done = vistok(hub, tmp_path / "home", "export", "hub", scored[0], "--repo", "someone/toy", "--private")
    assert done.returncode == 0 and "someone/toy" in done.stdout, done.stderr[-2000:]
    files = hub.files["someone/toy"]
    assert {"README.md", "config.json", "model.safetensors"} <= files.keys() and hub.private["someone/toy"]
    done = vistok(hub, tmp_path / "home", "import", "hub", "someone/toy", "--out", tmp_path / "back")
    assert done.returncode == 0 and "debug-crt: tokenizer of someone/toy" in done.stdout, done.stderr[-2000:]
    one, two = load_tokenizer(scored[0]), load_tokenizer(tmp_path / "back")
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    # The scores come along, and nothing is measured again.
    assert list((tmp_path / "back" / "evaluations").glob("tokenizer-val-*.json"))


def test_the_card_holds_every_score_with_its_protocol(scored, tmp_path):
    readme = (write_folder(scored[0], tmp_path / "out", "someone/toy") / "README.md").read_text()
    found = metadata_of(readme)
    assert found["library_name"] == "vistok" and found["pipeline_tag"] == "image-feature-extraction"
    metrics = {m["type"]: m["value"] for result in found["model-index"][0]["results"] for m in result["metrics"]}
    (scores,) = [found for found in read_evaluations(scored[0]) if found["num_images"] == 300]
    assert metrics["rfmd"] == pytest.approx(scores["rfmd"]["value"], abs=1e-4)
    assert metrics["psnr"] == pytest.approx(scores["psnr"]["value"], abs=1e-4)
    protocol = scores["rfmd"]["protocol"]
    (row,) = [line for line in readme.splitlines() if line.startswith("| rFMD")]
    for part in (protocol["extractor_digest"][:12], protocol["reference"], protocol["estimator"], protocol["rounding"]):
        assert part in row
    assert "with the causal regularizer (arXiv 2412.16326, l2_pre)" in readme


def test_a_generator_brings_its_tokenizer(scored, tmp_path, monkeypatch):
    """From the folder alone: the tokenizer's run is gone."""
    folder = write_folder(scored[1], tmp_path / "folder", "someone/toy-ar", tokenizer=scored[0])
    assert metadata_of((folder / "README.md").read_text())["pipeline_tag"] == "unconditional-image-generation"
    import_hub(str(folder), tmp_path / "run")
    sampling, labels, ids = SamplingConfig(seed=3), torch.arange(2), torch.arange(2)
    tokens = [
        generator.sample(labels, ids, sampling)
        for generator in (load_generator(scored[1]), load_generator(tmp_path / "run"), from_pretrained(folder))
    ]
    assert torch.equal(tokens[0], tokens[1]) and torch.equal(tokens[0], tokens[2])
    for generator in (load_generator(tmp_path / "run"), from_pretrained(folder)):
        place = generator.info["tokenizer"]["path"]
        assert str(tmp_path) in place
        assert torch.equal(load_tokenizer_of(generator).decode(tokens[0]), load_tokenizer(scored[0]).decode(tokens[0]))
    assert RunDir(tmp_path / "run").finished
    import_hub(str(folder), tmp_path / "run")  # a second time is nothing new


def test_clear_words(scored, hub, tmp_path, monkeypatch):
    done = vistok(hub, tmp_path / "home", "import", "hub", "someone/nothing", "--out", tmp_path / "x")
    assert done.returncode == 1 and "someone/nothing could not be had from the hub" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "x").exists()
    hub.url, right = "http://127.0.0.1:9", hub.url  # nobody listens there
    done = vistok(hub, tmp_path / "home", "export", "hub", scored[0], "--repo", "someone/toy")
    hub.url = right
    assert (
        done.returncode == 1 and "someone/toy could not be uploaded" in done.stderr and "Traceback" not in done.stderr
    )
    with pytest.raises(UserError, match="'a/b/c' is no name of a repository"):
        push_to_hub(str(scored[0]), "a/b/c")
    with pytest.raises(UserError, match="has no model.safetensors"):
        from_pretrained(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something already"):
        write_folder(scored[0], tmp_path / "full", "someone/toy")
    folder = write_folder(scored[0], tmp_path / "folder", "someone/toy")
    with pytest.raises(UserError, match="holds something else already"):
        import_hub(str(folder), tmp_path / "full")
    ar = write_folder(scored[1], tmp_path / "ar", "someone/toy-ar", tokenizer=scored[0])
    with pytest.raises(UserError, match="holds something else already"):
        import_hub(str(ar), tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]
    monkeypatch.setattr(hub_module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'vistok\[hub\]'"):
        from_pretrained("someone/toy")
