"""vistok advise: which studies it reads, that it needs none of one's own, and that its commands train what it advises."""

import json
import shlex

import pandas as pd
import pytest
from typer.testing import CliRunner

from conftest import REPOSITORY
from vistok import cli
from vistok.config import override, science
from vistok.errors import UserError
from vistok.recipes import find_recipe
from vistok.study.findings.advice_source import SHIPPED, advice_source
from vistok.study.findings.as_command import train_words
from vistok.study.findings.table import read_table


def vistok(*arguments):
    done = CliRunner().invoke(cli.app, [str(a) for a in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def trained_by(words):
    """The config that a command trains."""
    assert words[:2] == ["vistok", "train"]
    settings = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    return override(find_recipe(words[3], words[2]), settings)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_tables_are_those_of_the_results(name):
    """If not: read results/.../runs.csv, empty by_position, and write it there."""
    folder = {"fashion_shortcuts": "shortcuts", "fashion_decisive_study": "decisive"}.get(
        name, name.removesuffix("_study")
    )
    own = read_table(REPOSITORY / "results" / folder / "runs.csv").assign(by_position="")
    shipped = read_table(REPOSITORY / "src" / "vistok" / "study" / "findings" / "tables" / f"{name}.csv")
    pd.testing.assert_frame_equal(own, shipped.assign(by_position=""))


def test_advice_needs_no_results_and_no_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = vistok("advise", "--budget", "3e13 flops").splitlines()
    assert said[0] == "By the runs of fashion_study, whose results come with vistok, on fashion_mnist:"
    assert any(line.startswith("Expected gFMD: ") for line in said)
    tokenizer, generator = (shlex.split(line) for line in said[-2:])
    assert said[-3] == "To train both:" and generator[4:6] == ["--tokenizer", "latest"]
    choice = next(line for line in said if line.startswith("Tokenizer: ")).split("(")[1].split(")")[0]
    assert science(trained_by(tokenizer)) == science(advice_source(None).tokenizer(choice))
    assert not list(tmp_path.iterdir())
    assert "--study fashion_decisive_study" in said[-4]
    decisive = vistok("advise", "--budget", "3e13 flops", "--study", "fashion_decisive_study")
    assert "By the runs of fashion_decisive_study, whose" in decisive and "6 tokenizer seeds" in decisive
    with pytest.raises(UserError, match="one draw for all guidance scales is False in one and True"):
        vistok("advise", "--budget", "3e13", "--study", "tokens_study", "--study", "fashion_decisive_study")
    for study in ("openmoji", "openmoji_study", "openmoji-study"):
        assert "on openmoji:" in vistok("advise", "--budget", "3e13", "--study", study)
    content = json.loads(vistok("advise", "--budget", "3e13", "--json"))
    assert content["data"] == "fashion_mnist" and content["commands"] == said[-2:]


def test_advice_of_ones_own_study(tmp_path, monkeypatch):
    results = REPOSITORY / "results" / "openmoji"
    monkeypatch.chdir(tmp_path)
    by_folder = vistok("advise", "--budget", "3e13", "--study", results)
    assert f"By the runs of {results}, on openmoji:" in by_folder
    assert "vistok train tokenizer openmoji_" in by_folder and "vistok train generator openmoji_ar" in by_folder
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "mine").symlink_to(results)
    (tmp_path / "mine.yaml").write_text("base: openmoji_study\n")
    by_file = vistok("advise", "--budget", "3e13", "--study", "mine.yaml")
    assert by_file.splitlines()[1:] == by_folder.splitlines()[1:]
    (tmp_path / "results" / "fashion").symlink_to(results)  # one's own results come before those that come with vistok
    assert "By the runs of results/fashion, on openmoji:" in vistok("advise", "--budget", "3e13")
    with pytest.raises(
        UserError,
        match=r"results/images64/runs.csv is missing: .* vistok study run STUDY and vistok study report STUDY",
    ):
        vistok("advise", "--budget", "3e13", "--study", "images64_study")
    with pytest.raises(
        UserError,
        match="--study 'nowhere': give a folder of results .*fashion_study, fashion_decisive_study, openmoji_study",
    ):
        vistok("advise", "--budget", "3e13", "--study", "nowhere")


def test_several_data_sets_are_told_apart(tmp_path):
    source = advice_source("fashion_study")
    both = pd.concat([source.table, advice_source("openmoji").table])
    source = type(source)("both", both)
    with pytest.raises(UserError, match="both has runs on fashion_mnist, openmoji; say which with --data"):
        source.of_data(None)
    assert set(source.of_data("openmoji").table.data) == {"openmoji"}
    with pytest.raises(UserError, match="no runs on 'folder', only on fashion_mnist, openmoji"):
        source.of_data("folder")
    assert source.of_data("openmoji").tokenizer("none") is None  # neither records nor a study say what it was


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        ("debug_vq", []),
        ("fashion_crt", ["length=1e13 flops", "crt.weight=2", "data.max_images=20"]),
        ("images64_crt", ["regularizers.causal=null", 'data.root="my photos"']),
        ("fashion_vq", ['tokenizer.quantizer={"kind": "fsq", "levels": [8, 8]}', "tokenizer.encoder.multipliers=[1, 2]",
                        "tokenizer.decoder.multipliers=[1, 2]"]),
        ("fashion_kl", ["regularizers.noising.strength=0.5", "losses.perceptual=null"]),
        ("fashion_flow", ['generator.times="uniform"', "seed=3"]),
        ("fashion_masked", ['generator.schedule="cosine"', "generator.unmasked_weight=0.1"]),
    ],
)  # fmt: skip
def test_a_config_is_the_command_that_trains_it(recipe, settings):
    config = override(find_recipe(recipe), settings)
    words = train_words(config)
    assert words is not None
    assert science(trained_by(words).replace(seed=config.seed)) == science(config)
    if not settings:
        assert words == ["vistok", "train", "tokenizer", "debug_vq"]
    assert ("--data" in words) == any("data.root" in setting for setting in settings)


def test_steps_of_drawing_are_not_told_as_those_of_training():
    said = vistok("advise", "--study", "fashion_shortcuts", "--budget", "1e15")
    (generator,) = [line for line in said.splitlines() if line.startswith("Generator: ")]
    assert "parameters; " in generator and "To train both:" not in said and "vistok sample" in said
