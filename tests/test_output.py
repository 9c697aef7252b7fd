"""Where output goes, and what becomes of it where it cannot go there."""

import json
import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tiny_networks import write_pair
from vistok.cli import app
from vistok.errors import UserError
from vistok.origin import TokenizerOf
from vistok.runs.load import tokenizer_place
from vistok.scoring.evaluations import keep_evaluation, unkept_warnings
from vistok.verbs.output import output_file


def test_output_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch):
    """Images were drawn for minutes, and then could not be written."""
    with pytest.raises(UserError, match="neither a file nor a folder"):
        output_file(tmp_path.__class__(os.devnull), "x.png", (".png",))
    monkeypatch.setattr(os, "access", lambda place, how: False)
    with pytest.raises(UserError, match="nothing may be written in"):
        output_file(tmp_path / "a.png", "x.png", (".png",))


def test_scores_that_cannot_be_kept_are_not_lost(tmp_path):
    (tmp_path / "evaluations").write_text("in the way")
    result = {"psnr": 20.0}
    keep_evaluation(tmp_path / "evaluations" / "tokenizer-1.json", result)
    assert result["psnr"] == 20.0 and result["not_kept"]
    scores = {"kind": "generator", "likelihood": {"not_kept": "full"}, "probe": {"by_layer": [1.0], "not_kept": "full"}}
    (warning,) = unkept_warnings(scores)
    assert "(full)" in warning and scores == {"kind": "generator", "likelihood": {}, "probe": {"by_layer": [1.0]}}
    keep_evaluation(tmp_path / "kept.json", kept := {"psnr": 20.0})
    assert json.loads((tmp_path / "kept.json").read_text()) == kept == {"psnr": 20.0}


def test_a_tokenizer_that_was_moved_with_its_generator_is_found(tmp_path, monkeypatch):
    place = tmp_path / "project" / "runs"
    (place / "tokenizer-1").mkdir(parents=True)
    file = place / "generator-1" / "export" / "model.safetensors"
    wanted = TokenizerOf(digest="d", path=str(place / "tokenizer-1"))
    assert tokenizer_place(file, wanted) == place / "tokenizer-1"
    shutil.move(tmp_path / "project", tmp_path / "elsewhere")
    moved = tmp_path / "elsewhere" / "runs"
    assert tokenizer_place(moved / "generator-1" / "export" / "model.safetensors", wanted) == moved / "tokenizer-1"
    (moved / "generator-1").mkdir()
    monkeypatch.chdir(moved / "generator-1")  # as in: vistok sample .
    assert tokenizer_place(Path("export/model.safetensors"), wanted) == moved / "tokenizer-1"
    shutil.rmtree(moved / "tokenizer-1")  # then it is where it was, and gone
    assert tokenizer_place(moved / "generator-1" / "export" / "model.safetensors", wanted) == place / "tokenizer-1"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--top-k", "0"], "--top-k: "),
        (["--guidance", "nan"], "--guidance: "),
        (["--lookahead", "3"], "add --draft RUN"),
        (["--count", "1", "--class", "0,1"], "2 classes chosen, but 1 image asked for"),
        (["--from", "fashion-crt"], "give one of them"),
    ],
)
def test_options_of_sampling_are_named_as_they_are_typed(words, sentence, tmp_path):
    _, generator = write_pair(tmp_path)
    done = CliRunner().invoke(app, ["sample", str(generator), "--out", str(tmp_path / "a.png"), *words])
    assert done.exit_code != 0 and sentence in str(done.exception), done.exception
