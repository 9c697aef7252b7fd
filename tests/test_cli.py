"""The command line as a stranger meets it."""

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from vistok import cli
from vistok.errors import UserError

TINY = ["--set", "length=4 steps", "--set", "batch_size=8", "--set", "execution.tensorboard=false"]
SMALL_NETWORK = [
    "--set", "tokenizer.encoder.channels=8", "--set", "tokenizer.decoder.channels=8",
    "--set", "tokenizer.quantizer.codebook_size=32", "--set", "tokenizer.latent_channels=8",
]  # fmt: skip


def invoke(*arguments):
    """Run a command. A UserError comes through as itself."""
    result = CliRunner().invoke(cli.app, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def run(*arguments):
    """Return what a command printed, progress and warnings included."""
    return invoke(*arguments).output


def run_json(*arguments):
    """Return what a command printed for programs: standard output holds JSON and nothing else."""
    return json.loads(invoke(*arguments).stdout)


def size_of(path):
    with Image.open(path) as picture:
        return picture.size


def run_of(output):
    return output.strip().splitlines()[-1].split(": ")[-1]


def test_help_lists_the_verbs():
    text = run("--help")
    for verb in ("train", "cache", "sample", "reconstruct", "evaluate", "compare", "recipes", "demo"):
        assert verb in text
    for command in (("train",), ("evaluate",), ("train", "tokenizer"), ("sample",), ("demo",)):
        assert "--help" in run(*command, "--help")


def test_mistakes_are_one_sentence_and_exit_code_1(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["vistok", "train", "tokenizer", "fashion_ctr"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    printed = capsys.readouterr().err
    assert printed.startswith("vistok: unknown recipe 'fashion_ctr'. Did you mean 'fashion_crt'?")
    assert "Traceback" not in printed


def test_recipes():
    listed = run("recipes")
    assert "fashion_crt" in listed and "images64_ar" in listed
    shown = run("recipes", "--show", "debug_crt")
    assert "training FLOPs" in shown and "memory" in shown
    assert run_json("recipes", "--show", "debug_ar", "--json")["debug_ar"]["resolved"]["steps"] == 40


def test_dry_run_writes_nothing(tmp_path, fashion_root):
    arguments = ("debug_crt", "--data", fashion_root, "--runs", tmp_path / "r", "--dry-run", "--set", "length=5 epochs")
    plan = run_json("train", "tokenizer", *arguments)
    # 5 epochs of 1,000 images in batches of 16, the last one whole.
    assert plan["steps"] == 313 and plan["params"]["decoder"] > 0
    assert not (tmp_path / "r").exists()


def test_own_images_go_the_whole_way(photo_folder, tmp_path):
    """Train a tokenizer, a generator and an evaluator on a folder, sample, reconstruct, score, compare."""
    runs = ["--runs", tmp_path / "runs"]
    data = ["--data", photo_folder]
    tokenizers = [
        run_of(run("train", "tokenizer", recipe, *data, *runs, *TINY, *SMALL_NETWORK))
        for recipe in ("images64_vq", "images64_crt")
    ]
    assert "was finished already" in run("train", "tokenizer", "images64_vq", *data, *runs, *TINY, *SMALL_NETWORK)
    assert "test: 9 images" in run("cache", tokenizers[0], "--view", "center")
    small = ["--set", "generator.num_heads=2", "--set", "generator.width=16", "--set", "generator.depth=1"]
    generators = [
        run_of(run("train", "generator", "images64_ar", "--tokenizer", t, *runs, *TINY, *small)) for t in tokenizers
    ]
    dry = ("--tokenizer", tokenizers[0], *runs, *TINY, *small, "--dry-run")
    planned = run_json("train", "generator", "images64_ar", *dry)
    assert planned["steps"] == 4 and planned["num_classes"] == 3
    evaluator = run_of(run("train", "classifier", "images64_evaluator", *data, *runs, *TINY))

    assert "3 images" in run("sample", generators[0], "--count", 3, "--class", "waves", "--out", tmp_path / "s")
    assert size_of(tmp_path / "s.png")[1] == 64
    run(
        "sample",
        generators[0],
        "--count",
        6,
        "--format",
        "npz",
        "--out",
        tmp_path / "s",
        "--guidance",
        "1.5",
        "--top-k",
        "5",
    )
    photo = next((photo_folder / "waves").glob("*.jpg"))
    assert "PSNR" in run("reconstruct", photo, photo, "--tokenizer", tokenizers[0], "--out", tmp_path / "r.png")
    assert size_of(tmp_path / "r.png") == (2 * 66 - 2, 2 * 66 - 2)

    without = run("evaluate", "tokenizer", tokenizers[0])
    assert "PSNR" in without and "no Frechet distance" in without
    assert "PSNR" in run("evaluate", "tokenizer", tokenizers[1])
    assert "PSNR" in run("compare", *tokenizers)
    with pytest.raises(UserError, match="images64_evaluator"):
        run("evaluate", "generator", generators[0], "--count", 40)
    with pytest.raises(UserError, match="is a file"):
        run("evaluate", "generator", Path(generators[0]) / "export" / "model.safetensors")
    for generator in generators:
        scored = run(
            "evaluate",
            "generator",
            generator,
            "--count",
            40,
            "--evaluator",
            evaluator,
            "--choose-guidance",
            "1,1.5",
            "--split",
            "train",
        )
        assert "gFMD" in scored and "images64-evaluator" in scored
    how = ("--split", "train", "--evaluator", evaluator, "--json")
    names = run_json("evaluate", "tokenizer", tokenizers[0], *how)
    assert names["rfmd"]["protocol"]["extractor"] == "images64-evaluator"


def test_flat_folder_trains_without_classes(photo_folder, tmp_path):
    runs = ["--runs", tmp_path / "runs"]
    flat = photo_folder / "waves"
    tokenizer = run_of(run("train", "tokenizer", "images64_crt", "--data", flat, *runs, *TINY, *SMALL_NETWORK))
    generator = run_of(
        run("train", "generator", "images64_ar", "--tokenizer", tokenizer, *runs, *TINY, "--set", "generator.width=24")
    )
    run("sample", generator, "--count", 12, "--out", tmp_path / "flat")
    with pytest.raises(UserError, match="needs classes"):
        run("train", "classifier", "images64_evaluator", "--data", flat, *runs, *TINY)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "tokenizer", "fashion_ar"), "is for a generator, not a tokenizer"),
        (("train", "tokenizer", "debug_vq", "--set", "seeed=1"), "Did you mean 'seed'"),
        (("train", "tokenizer", "debug_vq", "--set", "execution.micro_batch_size=5"), "must divide batch_size 16"),
        (("train", "generator", "debug_ar", "--tokenizer", "nowhere"), "neither a run directory"),
        (("sample", "nowhere"), "neither a run directory"),
        (("evaluate", "tokenizer", "nowhere"), "neither a run directory"),
        (("train", "tokenizer", "images64_vq", "--data", "nowhere"), "not found"),
        (("train", "tokenizer", "debug_vq", "--set", 'execution.device="warp"'), "execution.device 'warp'"),
        (("demo", "--tiny", "--full"), "exclude each other"),
    ],
)
def test_bad_commands_say_what_to_do(arguments, words, tmp_path, monkeypatch, fashion_root):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(fashion_root)
    with pytest.raises(UserError, match=words):
        run(*arguments)
