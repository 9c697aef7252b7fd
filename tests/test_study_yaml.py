"""Studies in YAML and TOML files: a recipe with changes, or all of it; mistakes name the file and the field."""

import json
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vistok import cli
from vistok.cli.study import study_config
from vistok.config import override
from vistok.errors import UserError
from vistok.recipes import find_recipe
from vistok.study.from_file import read_study
from vistok.units import Duration

REPOSITORY = Path(__file__).parent.parent
CHANGED = """
base: debug_study
tokenizer.data.max_images: 400
tokenizer:
  batch_size: 8
  optimizer: {lr: 3e-3}        # YAML 1.1 reads this as text
  tokenizer.quantizer: {kind: fsq, levels: [4, 4]}
generator.length: 7
scoring: {samples: 50}
grids:
  - name: main
    tokenizers:
      - {name: none}
      - name: crt
        set:
          regularizers.causal.weight: 2e0
          tokenizer.latent_channels: 8
    generators: [{name: s, set: ["generator.width=16"]}]
    lengths: [5 steps, 10]
    seeds: [3]
"""
WHOLE = """
tokenizer: debug_vq
generator: {base: debug_ar, batch_size: 16}
grids: [{name: only, tokenizers: [{name: none}]}]
"""
TOML = """
base = "debug_study"
[tokenizer.optimizer]
lr = 3e-3
[[grids]]
name = "main"
tokenizers = [{ name = "none" }, { name = "small", set = { "tokenizer.quantizer.codebook_size" = 32 } }]
generators = [{ name = "s" }]
lengths = ["5 steps"]
"""


def study(tmp_path, text, name="my.yaml"):
    file = tmp_path / name
    file.write_text(text)
    return read_study(file)


def test_a_file_changes_a_recipe(tmp_path):
    found, base = study(tmp_path, CHANGED), find_recipe("debug_study")
    assert found.name == "my"  # so that its results do not lie among those of the recipe
    assert found.tokenizer.batch_size == 8 and found.tokenizer.optimizer.lr == 3e-3
    assert found.tokenizer.optimizer.warmup == base.tokenizer.optimizer.warmup  # what is not named stays
    assert found.tokenizer.tokenizer.quantizer.kind == "fsq"  # another kind replaces the part, whole
    assert found.tokenizer.data.max_images == 400 and found.scoring.samples == 50
    assert found.scoring.scales == base.scoring.scales and found.generator.length == Duration(value=7, unit="steps")
    (grid,) = found.grids
    assert grid.lengths == (Duration(value=5, unit="steps"), Duration(value=10, unit="steps")) and grid.seeds == (3,)
    crt = override(found.tokenizer, list(grid.tokenizers[1].set))
    assert crt.regularizer("causal").weight == 2.0 and crt.tokenizer.latent_channels == 8


def test_a_file_may_say_everything(tmp_path):
    found = study(tmp_path, WHOLE)
    recipe = find_recipe("debug_vq")
    assert found.tokenizer == recipe and found.generator == find_recipe("debug_ar").replace(batch_size=16)
    assert [grid.name for grid in found.grids] == ["only"]
    named = study(tmp_path, f"name: other\n{WHOLE}")
    assert named.name == "other"


def test_toml_says_the_same(tmp_path):
    found = study(tmp_path, TOML, "my.toml")
    assert found.tokenizer.optimizer.lr == 3e-3
    assert found.grids[0].tokenizers[1].set == ("tokenizer.quantizer.codebook_size=32",)


def test_a_recipe_as_yaml_is_the_recipe(tmp_path):
    for name in ("fashion_study", "images64_study"):
        recipe = find_recipe(name)
        assert study(tmp_path, recipe.to_json()) == recipe


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("base: debug_stud", "base: unknown recipe 'debug_stud'. Did you mean 'debug_study'"),
        ("base: debug_vq", "base: recipe 'debug_vq' is for a tokenizer, not a study"),
        ("base: [1]", "base: expected the name of a recipe, found list"),
        ("bass: debug_study", "config has no field 'bass'. Did you mean 'base'?"),
        ("tokenizer: debug_ar", "tokenizer.base: recipe 'debug_ar' is for a generator, not a tokenizer"),
        ("tokenizer: debug_vq", "generator is missing; name a recipe, as in generator: images64_ar"),
        ("tokenizer: debug_vq\ngenerator: debug_ar", "grids is missing"),
        ("base: debug_study\ntokenizer: {lr: 1}", "no field 'tokenizer.lr'. Did you mean 'tokenizer.optimizer.lr'?"),
        ("base: debug_study\ntokenizer: {seed: x}", "config field seed: Input should be a valid integer"),
        ("base: debug_study\ntokenizer.seeds: 1", "no field 'tokenizer.seeds'. Did you mean 'tokenizer.seed'?"),
        ("base: debug_study\ngrids: {name: x}", "grids: expected a list, found dict"),
        ("base: debug_study\ngrids: [{name: x, tokenizers: [{name: a}], lengts: [1]}]", "grids.0.lengts: Extra inputs"),
        ("base: debug_study\ngrids: [{name: x, tokenizers: [{name: A}]}]", "grids.0.tokenizers.0: a choice's name"),
        ("base: debug_study\nscoring.scales: [1, x]", "scoring.scales.1"),
        ("base: debug_study\ngrids.0.lengths: [1 hour]", "grids.0.lengths.0: '1 hour' is a time"),
        ("- a", "expected fields such as base and grids, found list"),
        ("base: [debug", "not YAML (line 1, column 13: "),
        ("a: !!python/object/apply:os.system [date]", "not YAML (line 1"),
        ("\x00", "not YAML"),
        ("a: 2020-01-01\n" * 2, "config has no field 'a'"),
    ],
)  # fmt: skip
def test_mistakes_name_the_file_and_the_field(tmp_path, text, words):
    with pytest.raises(UserError) as error:
        study(tmp_path, text)
    assert str(error.value).startswith(f"study {tmp_path}/my.yaml: ") and words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    with pytest.raises(UserError, match=r"no.yaml: not found; give a file, or the name of a recipe: .*debug_study"):
        read_study(tmp_path / "no.yaml")
    with pytest.raises(
        UserError, match="study .*my.toml: damaged, or not what its name says .Invalid value.*; write it as YAML"
    ):
        study(tmp_path, "base = ", "my.toml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(UserError, match="b.yaml: "):
        read_study(tmp_path / "b.yaml")


def test_commands_take_files_and_set_changes_them(tmp_path):
    (tmp_path / "my study.yaml").write_text(CHANGED)
    config = study_config(
        str(tmp_path / "my study.yaml"), ["grids.0.seeds=[1, 2]", "tokenizer.seed=4"], "pictures", ["main"]
    )
    assert config.grids[0].seeds == (1, 2) and config.tokenizer.data.root == "pictures" and config.name == "my study"


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["fashion_mnist", "openmoji"])
def test_a_dry_run_fetches_and_writes_nothing(tmp_path, monkeypatch, dataset):
    monkeypatch.chdir(tmp_path)
    recipe = "debug_study" if dataset == "fashion_mnist" else "openmoji_study"
    done = CliRunner().invoke(cli.app, ["study", "run", recipe, "--dry-run"])
    assert done.exit_code == 0, done.output
    assert f"the images of {dataset} are not in data yet and would be fetched" in done.stdout
    assert "main: 4 tokenizers, 24 generators" in done.stdout or dataset == "openmoji"
    assert not list(tmp_path.iterdir())


def test_the_commands_that_repeat_a_study_can_be_pasted(tmp_path):
    from vistok.cli.study import _repeated
    from vistok.study.run.record import StudyFolder

    folder = StudyFolder(tmp_path / "results of mine")
    file = str(tmp_path / "my study.yaml")
    (tmp_path / "my study.yaml").write_text(CHANGED)
    evaluator = tmp_path / "a b.safetensors"
    evaluator.touch()
    settings = ["tokenizer.length=10 steps", f'evaluator="{evaluator}"']
    config = study_config(file, settings, None, [])
    run, report = _repeated(file, settings, config, folder, folder.path)
    options = ["--set", settings[0], "--set", settings[1], "--out", str(folder.path)]
    assert shlex.split(run) == ["vistok", "study", "run", file, *options]
    assert shlex.split(report) == ["vistok", "study", "report", file, *options]
    # The images lie where the records say, if the study does not.
    row = {"kind": "tokenizer", "run": "t", "choice": "c", "data": "folder", "by_position": "", "seed": 0, "num_tokens": 4,
           "params": 1, "steps": 1, "train_flops": 1.0, "seconds": 1.0, "psnr": 1.0, "rfmd": 1.0}  # fmt: skip
    protocol = {"protocol": {"extractor_digest": "d"}}
    record = {
        "run": "t",
        "row": row,
        "config": {"data": {"root": "my photos"}},
        "directory": "d",
        "detail": {"scores": {"a": protocol}},
    }
    folder.write(json.loads(json.dumps(record)))
    assert shlex.split(_repeated(file, [], config, folder, None)[0])[-2:] == ["--data", "my photos"]


def test_a_studys_evaluator_is_named_like_any_run(tmp_path, monkeypatch):
    run = tmp_path / "runs" / "cats-0123456789"
    run.mkdir(parents=True)
    (run / "config.json").write_text(find_recipe("images64_evaluator", "classifier").to_json())
    monkeypatch.chdir(tmp_path)
    for text in ("cats", "latest", "runs/cats-0123456789"):
        found = study_config("images64_study", [f'evaluator="{text}"'], None, [])
        assert found.evaluator == str(Path("runs") / run.name)
    with pytest.raises(UserError, match="dogs"):
        study_config("images64_study", ['evaluator="dogs"'], None, [])
    assert study_config("fashion_study", [], None, []).evaluator is None


@pytest.mark.parametrize("name", ["emoji-32", "emoji-48"])
def test_example_studies_are_read(name):
    study = read_study(REPOSITORY / "examples" / "studies" / f"{name}.yaml")
    assert study.name == name and len(study.grids[0].seeds) == 5 and study.tokenizer.data.root == "data/emoji"
