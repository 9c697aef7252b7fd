"""What all commands share: help, version, --quiet, completion, options that are fields, the list of recipes."""

import json
import os
import re
import shlex
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from vistok import __version__, cli
from vistok.recipes import recipe_kinds
from vistok.runs.load import load_generator
from vistok.runs.shipped import shipped_network, shipped_networks


def vistok(*arguments):
    """Run a command; return its exit code, standard output and standard error."""
    done = CliRunner().invoke(cli.app, [str(a) for a in arguments], terminal_width=200)
    return done.exit_code, done.stdout, done.stderr


def commands(app, *words):
    for command in app.registered_commands:
        yield (*words, command.name or command.callback.__name__)
    for group in app.registered_groups:
        yield from commands(group.typer_instance, *words, group.name)


@pytest.mark.parametrize("words", list(commands(cli.app)), ids=" ".join)
def test_help_names_no_python_types(words):
    code, printed, _ = vistok(*words, "-h")
    assert code == 0 and printed == vistok(*words, "--help")[1]
    assert not re.search(r"<(int|float|str|bool|Path|list)|list\[|FUNC", printed), printed
    assert "--quiet" in printed and "-h" in printed


def test_version():
    code, printed, _ = vistok("--version")
    assert code == 0 and printed.startswith(f"vistok {__version__} (Python 3.")


@pytest.mark.parametrize(
    ("typed", "instead"),
    [
        ("train tokenizer debug_vq --seed 7", "--set seed=7"),
        ("train tokenizer debug_vq --lr=1e-3", "--set optimizer.lr=1e-3"),
        ("train tokenizer debug_vq --learning-rate 1", "--set optimizer.lr=1"),
        ("train tokenizer debug_vq --device cuda", "--set execution.device=cuda"),
        ("train generator debug_ar --batch-size 8", "--set batch_size=8"),
        ("train classifier debug_classifier --epochs 3", "--set 'length=3 epochs'"),
        ("train tokenizer debug_vq --steps", "--set 'length=VALUE steps'"),
        ("train tokenizer debug_vq --output x", "--runs FOLDER"),
        ("train tokenizer debug_vq --resume", "Repeat the same command"),
        ("study run debug_study --seed 3", "--set 'grids.0.seeds=[3]'"),
        ("study run debug_study --lr 3", "--set tokenizer.optimizer.lr=3 or --set generator.optimizer.lr=3"),
        ("study run --config my.yaml", "vistok study run my.yaml"),
        ("sample run -o x", "--out PATH"),
        ("evaluate generator run --device cuda", "CUDA_VISIBLE_DEVICES="),
        ("evaluate tokenizer run --seed 3", "no seed"),
        ("evaluate tokenizer run --batch-size 3", "as suits the machine"),
        ("evaluate tokenizer run --output x", "--json"),
        ("reconstruct x.png --seed 1", "no seed"),
        ("--quiet recipes", "vistok sample RUN --quiet"),
    ],
)  # fmt: skip
def test_an_option_that_is_none_says_what_to_type(typed, instead):
    code, printed, said = vistok(*shlex.split(typed))
    assert code == 2 and not printed
    assert said.startswith("vistok: ") and instead in said and said.count("\n") == 1  # in one line, to be pasted


def test_other_unknown_options_are_told_as_ever():
    code, _, said = vistok("cache", "run", "--datas", "x")
    assert code == 2 and "No such option: --datas" in said and "--data" in said


@pytest.mark.slow
def test_quiet_shows_results_and_warnings_only(fashion_root, tmp_path):
    train = (
        "train",
        "tokenizer",
        "debug_vq",
        "--data",
        fashion_root,
        "--set",
        "data.max_images=60",
        "--runs",
        tmp_path,
    )
    code, printed, said = vistok(*train, "--quiet", "--set", "length=4")
    assert code == 0 and "finished" in printed + said
    others = [line for line in said.splitlines() if not line.startswith(("warning: ", "finished"))]
    assert not others
    code, printed, said = vistok(*train, "--set", "length=5")
    assert code == 0 and "debug-vq ..." in said  # and only for that one command


def completed(line, folder):
    """Return what Tab offers behind a line typed in a folder, and check that nothing heavy was loaded for it."""
    words = shlex.split(line)
    words += [""] if line.endswith(" ") else []
    code = (
        "import sys, atexit; sys.argv = ['vistok']\n"
        "atexit.register(lambda: print([m for m in ('torch', 'numpy', 'vistok.config') if m in sys.modules], file=sys.stderr))\n"
        "from vistok.cli import main; main()"
    )
    typed = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_VISTOK_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **typed},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.strip() == "[]", done.stderr
    return done.stdout.split()


def test_tab_offers_recipes_and_runs(tmp_path):
    for name, kind in (("a-1", "tokenizer"), ("a-2", "generator"), ("b-3", "generator")):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "config.json").write_text(json.dumps({"kind": kind}))
    (tmp_path / "runs" / "no-run").mkdir()
    of_kind = {
        kind: {name for name in recipe_kinds() if recipe_kinds()[name] == kind} for kind in recipe_kinds().values()
    }
    assert set(completed("vistok train tokenizer ", tmp_path)) == of_kind["tokenizer"]
    assert set(completed("vistok study run ", tmp_path)) == of_kind["study"]
    assert completed("vistok train generator images64_ar", tmp_path) == ["images64_ar", "images64_ar_small"]
    assert set(completed("vistok sample ", tmp_path)) == {
        "runs/a-2",
        "runs/b-3",
        "fashion-baseline",
        "fashion-crt",
        "fashion-flow",
        "pictures64",
    }
    assert set(completed("vistok advise --study ", tmp_path)) == of_kind["study"]
    assert completed("vistok sample runs/a", tmp_path) == ["runs/a-2"]
    assert completed("vistok sample b", tmp_path) == ["b-3"]
    assert completed("vistok cache runs/", tmp_path) == ["runs/a-1"]
    assert completed("vistok sample --from fashion-c", tmp_path) == ["fashion-crt"]
    assert completed("vistok train tokenizer images64_vq --init-from pictures", tmp_path) == ["pictures64"]
    (tmp_path / "runs" / "no-run" / "config.json").write_text("{")
    assert set(completed("vistok sample runs/", tmp_path)) == {"runs/a-2", "runs/b-3"}  # whatever else lies there


def test_the_list_of_recipes_is_in_groups():
    code, printed, _ = vistok("recipes")
    lines = printed.splitlines()
    assert code == 0 and lines[0] == "Your own images (add --data FOLDER)"
    names = [line.split()[0] for line in lines if line.startswith("    ")]
    assert sorted(names) == sorted(recipe_kinds())
    assert (
        lines.index("Fashion-MNIST")
        < [line.split()[:1] for line in lines].index(["fashion_vq"])
        < lines.index("OpenMoji")
    )
    assert "  Generators (vistok train generator NAME --tokenizer RUN)" in lines


@pytest.mark.parametrize("name", shipped_networks("generator"))
def test_shipped_pairs_are_drawn_as_they_were_scored(name, tmp_path):
    """Without any option: the guidance and the steps that its file says, and nothing that its family does not have."""
    out = tmp_path / "samples.png"
    done = CliRunner().invoke(
        cli.app, ["sample", "--from", name, "--count", "2", "--out", str(out)], catch_exceptions=False
    )
    assert done.exit_code == 0 and out.is_file(), done.output
    scores = load_generator(shipped_network(name, "generator")).info.scores
    guided = 2 if (scores.get("guidance_scale") or 1.0) != 1.0 else 1
    if "sampling_steps" in scores:
        assert f"{guided * scores['sampling_steps']} calls" in done.output
