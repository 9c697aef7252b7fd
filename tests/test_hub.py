"""To the Hugging Face Hub and back, against a stand-in: weights, scores and card; and without a network."""

import errno
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import tiny_networks
from hub_stand_in import Hub
from vistok import from_pretrained
from vistok.data.config import DataConfig
from vistok.data.images.open import open_split
from vistok.engine.run_dir import RunDir
from vistok.engine.weights import load_weights, save_weights
from vistok.errors import UserError
from vistok.generator.autoregressive.config import AutoregressiveSampling
from vistok.interop import hub as hub_module
from vistok.interop.hub import import_hub, push_to_hub, write_folder
from vistok.interop.hub_card import evaluations_in
from vistok.runs.load import load_generator, load_tokenizer, load_tokenizer_of
from vistok.scoring.evaluate_tokenizer import evaluate_tokenizer
from vistok.scoring.evaluators import SCHEMA, choose_evaluator


@pytest.fixture(scope="module")
def scored(toy_runs, tmp_path_factory, quiet):
    """(tokenizer run with an evaluation, generator run), copies."""
    folder = tmp_path_factory.mktemp("scored")
    bare = shutil.ignore_patterns("evaluations")
    tokenizer, generator = (shutil.copytree(run, folder / run.name, ignore=bare) for run in (toy_runs[0], toy_runs[2]))
    with pytest.MonkeyPatch.context() as patch:
        few = lambda data, split: open_split(data, split).subset(np.arange(300), "few")  # noqa: E731
        patch.setattr("vistok.scoring.evaluate_tokenizer.open_split", few)
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


@pytest.mark.slow
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
    (scores,) = [found for _, found in evaluations_in(scored[0]) if found["num_images"] == 300]
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
    sampling, labels, ids = AutoregressiveSampling(seed=3), torch.arange(2), torch.arange(2)
    tokens = [
        generator.sample(labels, ids, sampling)
        for generator in (load_generator(scored[1]), load_generator(tmp_path / "run"), from_pretrained(folder))
    ]
    assert torch.equal(tokens[0], tokens[1]) and torch.equal(tokens[0], tokens[2])
    for generator in (load_generator(tmp_path / "run"), from_pretrained(folder)):
        place = generator.info.tokenizer.path
        assert str(tmp_path) in place
        assert torch.equal(load_tokenizer_of(generator).decode(tokens[0]), load_tokenizer(scored[0]).decode(tokens[0]))
    assert RunDir(tmp_path / "run").finished
    import_hub(str(folder), tmp_path / "run")  # a second time is nothing new


@pytest.mark.slow
def test_clear_words(scored, hub, tmp_path, monkeypatch):
    done = vistok(hub, tmp_path / "home", "import", "hub", "someone/nothing", "--out", tmp_path / "x")
    assert done.returncode == 1 and "someone/nothing could not be downloaded from the hub" in done.stderr
    assert "Traceback" not in done.stderr and not (tmp_path / "x").exists()
    hub.url, right = "http://127.0.0.1:9", hub.url  # nobody listens there
    done = vistok(hub, tmp_path / "home", "export", "hub", scored[0], "--repo", "someone/toy")
    hub.url = right
    assert (
        done.returncode == 1 and "someone/toy could not be uploaded" in done.stderr and "Traceback" not in done.stderr
    )
    with pytest.raises(UserError, match="'a/b/c' is not a valid repository name"):
        push_to_hub(str(scored[0]), "a/b/c")
    with pytest.raises(UserError, match="has no model.safetensors"):
        from_pretrained(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="already holds something else"):
        write_folder(scored[0], tmp_path / "full", "someone/toy")
    folder = write_folder(scored[0], tmp_path / "folder", "someone/toy")
    with pytest.raises(UserError, match="already holds something else"):
        import_hub(str(folder), tmp_path / "full")
    ar = write_folder(scored[1], tmp_path / "ar", "someone/toy-ar", tokenizer=scored[0])
    with pytest.raises(UserError, match="already holds something else"):
        import_hub(str(ar), tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["thesis.txt"]
    monkeypatch.setattr(hub_module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'vistok\[hub\]'"):
        from_pretrained("someone/toy")


def score(value, **more):
    return {
        "value": value, "low": None, "high": None, "treatment": {"weights": "ema"},
        "protocol": {"metric": "m", "reference": "photos test", "reference_digest": "r", "num_reference": 9,
                     "num_samples": 9, "estimator": "mean", **more},
    }  # fmt: skip


@pytest.fixture
def pair(tmp_path):
    """Run directories of a tiny tokenizer, with three evaluations, and of a generator."""
    tokenizer, generator = tiny_networks.write_pair(tmp_path / "pair")
    digests = RunDir(tokenizer).read("finished.json")["digests"]["ema"]
    facts = {
        "schema_version": SCHEMA, "kind": "tokenizer", "tokenizer_digest": digests, "run": "tiny", "split": "test",
        "num_images": 9, "treatment": {"weights": "ema"}, "ssim": {"value": 0.5}, "position_entropy": {"value": 1.0},
        "codebook": {"usage": 1.0, "entropy": 1.0, "skewness": 0.0},
    }  # fmt: skip
    (tokenizer / "evaluations").mkdir()
    for name, evaluation in {
        "now": facts | {"psnr": score(22.0)},
        "earlier": facts | {"schema_version": SCHEMA - 1, "psnr": score(33.0)},
        "raw": facts | {"tokenizer_digest": "other", "psnr": score(44.0)},
    }.items():
        (tokenizer / "evaluations" / f"tokenizer-{name}.json").write_text(json.dumps(evaluation))
    return tokenizer, generator


def test_the_card_holds_scores_of_this_version_and_these_weights_alone(pair, tmp_path):
    readme = (write_folder(pair[0], tmp_path / "out", "someone/tiny") / "README.md").read_text()
    (result,) = metadata_of(readme)["model-index"][0]["results"]
    assert [metric["value"] for metric in result["metrics"]] == [22.0]
    assert "33" not in readme.split("## Use")[0] and "44" not in readme.split("## Use")[0]
    damaged = pair[0] / "evaluations" / "tokenizer-now.json"
    for content in (
        "[" * 9999,
        "{",
        "[]",
        json.dumps({"schema_version": SCHEMA, "psnr": {"protocol": {}, "value": "x"}}),
    ):
        damaged.write_text(content)
        with pytest.raises(UserError, match=r"tokenizer-now\.json.*damaged.*delete the file"):
            write_folder(pair[0], tmp_path / "other", "someone/tiny")
        assert not (tmp_path / "other").exists()
    # Of a repository they are left out, and the network is imported.
    (tmp_path / "out" / "evaluations" / "tokenizer-now.json").write_text("{")
    assert "(left out evaluations that are damaged or of another version: tokenizer-now.json)" in import_hub(
        str(tmp_path / "out"), tmp_path / "run"
    )
    assert load_tokenizer(tmp_path / "run").info.class_names == ("cats", "dogs")


def test_only_the_same_import_is_written_again(pair, tmp_path):
    folder = write_folder(pair[1], tmp_path / "folder", "a/b")
    out = tmp_path / "out"
    import_hub(str(folder), out)
    (out / "mine.txt").write_text("mine")
    (out / "export" / "model.safetensors").unlink()
    import_hub(str(folder), out)
    assert (out / "mine.txt").read_text() == "mine" and load_generator(out).info.tokenizer.path == str(
        out / "tokenizer"
    )
    # The same weights with another grid are another network.
    state, header = load_weights(folder / "model.safetensors")
    save_weights(folder / "model.safetensors", state, header | {"grid": [2, 2]})
    with pytest.raises(UserError, match=r"already holds the same weights, imported with other settings \(space\)"):
        import_hub(str(folder), out)
    assert load_generator(out).space.layout.sides == (4, 4)
    with pytest.raises(UserError, match="out is already a run directory"):
        import_hub(str(out), tmp_path / "again")
    other = write_folder(pair[0], tmp_path / "other", "a/c")
    with pytest.raises(UserError, match="already holds something else"):
        import_hub(str(other), out)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file is a file; give a new folder"):
        import_hub(str(other), tmp_path / "file")
    with pytest.raises(UserError, match="file is a file; give a new folder"):
        write_folder(pair[0], tmp_path / "file", "a/c")


def test_a_repository_with_a_config_that_is_none_is_refused(pair, tmp_path):
    folder = write_folder(pair[0], tmp_path / "folder", "a/b")
    state, header = load_weights(folder / "model.safetensors")
    for config in (None, {}, [], {**header["run_config"], "seed": -1}, {**header["run_config"], "data": {"root": 3}}):
        save_weights(folder / "model.safetensors", state, header | {"run_config": config})
        with pytest.raises(UserError, match="model.safetensors"):
            import_hub(str(folder), tmp_path / "run")
        assert not (tmp_path / "run").exists()


STRIDE = 9


class Killed(BaseException):
    """Not an Exception: no handler takes it for an error."""


def failing_at(patch, number, how):
    """Let operations on files fail, "killed" from this number on, "full" this one; return how many there were."""
    count = 0

    def failing(name):
        done = getattr(os, name)

        def operation(*arguments, **options):
            nonlocal count
            count += 1
            if how == "killed" and count >= number:
                raise Killed
            if how == "full" and count == number and name not in ("unlink", "rmdir"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return done(*arguments, **options)

        patch.setattr(os, name, operation)

    for name in ("open", "replace", "mkdir", "unlink", "rmdir", "fsync"):
        failing(name)
    return lambda: count


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.mark.parametrize(
    ("verb", "there", "how"),
    [
        ("import", "nothing", "killed"),
        ("import", "something", "killed"),
        ("import", "something", "full"),
        ("export", "nothing", "full"),
        ("export", "something", "killed"),
    ],
)
def test_what_was_killed_or_found_no_room_can_be_repeated(pair, tmp_path, monkeypatch, verb, there, how):
    """At every ninth operation on files; what was there stays, and the result is that of an undisturbed command."""
    folder, out = write_folder(pair[1], tmp_path / "folder", "a/b"), tmp_path / "place" / "out"
    monkeypatch.setattr("vistok.engine.run_dir.provenance", dict)
    monkeypatch.setattr("vistok.interop.hub.check_network", lambda *_: None)

    def command():
        import_hub(str(folder), out) if verb == "import" else write_folder(pair[1], out, "a/b")

    def prepare():
        shutil.rmtree(out.parent, ignore_errors=True)
        out.parent.mkdir()
        if there == "something":
            shutil.copytree(tmp_path / "before", out)

    command()
    (out / "mine.txt").write_text("mine")  # what a user laid beside an earlier result
    shutil.copytree(out, tmp_path / "before")
    prepare()
    command()
    wanted = contents(out)
    for number in range(1, 1000, STRIDE):
        prepare()
        done = False
        with monkeypatch.context() as patch, suppress(Killed):
            count = failing_at(patch, number, how)
            try:
                command()
                done = True
            except UserError as error:
                assert how == "full" and "the disk is full" in str(error)
        assert there == "nothing" or (out / "mine.txt").read_text() == "mine"
        if done and count() < number:
            break  # there are no more operations
        command()
        assert contents(out) == wanted and [path.name for path in out.parent.iterdir()] == ["out"]
    assert number > 20
