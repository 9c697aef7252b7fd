"""The command line as a stranger meets it."""

import errno
import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from vistok import cli
from vistok.cli import options
from vistok.cli.ending import exit_code_of, typed_command
from vistok.errors import Stopped, UserError, damage_is_a_mistake

TINY = ["--set", "length=4 steps", "--set", "batch_size=8", "--set", "execution.tensorboard=false"]
SMALL_NETWORK = [
    "--set", "tokenizer.encoder.channels=8", "--set", "tokenizer.decoder.channels=8",
    "--set", "tokenizer.quantizer.codebook_size=32", "--set", "tokenizer.latent_channels=8",
    "--set", "tokenizer.quantizer.start_after=1",
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
    return output.strip().splitlines()[-1].split(": ")[-1].removesuffix("/page.html")


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
    assert printed.startswith("vistok: unknown recipe 'fashion_ctr'. Did you mean 'fashion_crt'")
    assert "Traceback" not in printed


EVIL = "cat\x1b[31m\x07\u202egpj.png"  # red, a bell, and from here on right to left
SHOWN = r"cat\x1b[31m\x07\u202egpj.png"


def ended(monkeypatch, capsys, error, *arguments):
    """Return exit code and what is printed where a verb ends in an error."""

    def verb():
        raise error

    monkeypatch.setattr("sys.argv", ["vistok", *arguments])
    code = exit_code_of(verb)
    return code, capsys.readouterr().err


def verbs(app):
    for command in app.registered_commands:
        yield command.callback
    for group in app.registered_groups:
        yield from verbs(group.typer_instance)


def expanded(parser):
    """What a parser makes of ~/x; one that looks for a run names what it found nowhere."""
    try:
        return str(parser("~/x"))
    except UserError as error:
        return str(error).split("'")[1]


def test_every_path_is_expanded(monkeypatch, tmp_path):
    """`--runs=~/x` comes here as it is: no shell expands it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    strings = {"data", "study", "tokenizer", "init_from", "evaluator", "inception"}
    for verb in verbs(cli.app):
        for name, hint in get_type_hints(verb, include_extras=True).items():
            kind, *_, how = get_args(hint) if get_origin(hint) is Annotated else (hint, None)
            if ("Path" in str(kind) or name in strings) and (verb.__name__, name) != ("advise", "data"):
                assert expanded(how.parser) == f"{tmp_path}/x", f"{verb.__name__} {name}: its parser must expand ~"
    assert options.path("~/x") == tmp_path / "x" and options.path("./~") == Path("./~")
    assert options.place("https://a//b-{0..3}.tar") == "https://a//b-{0..3}.tar"
    assert options.setting("data.root=~/x") == f"data.root={tmp_path}/x"
    assert options.setting('data.root="~/x"') == f'data.root="{tmp_path}/x"'
    assert options.setting("seed=1") == "seed=1"
    with pytest.raises(UserError, match=f"no tokenizer '{tmp_path}/no': it is neither a path"):
        run("evaluate", "tokenizer", "~/no")


def test_a_stop_that_a_parser_made_an_error_of_is_still_a_stop(monkeypatch, capsys):
    """Code in C that calls Python turns whatever Python raises into its own error; good weights were called damaged."""
    monkeypatch.setattr(Stopped, "asked", True)
    with pytest.raises(Stopped), damage_is_a_mistake("weights", "copy them again"):
        raise RuntimeError("could not determine the shape of object type")
    code, said = ended(monkeypatch, capsys, TypeError("schema"), "train", "tokenizer", "x")
    assert code == 130 and said.startswith("vistok: stopped. To continue, repeat")


def test_the_command_to_repeat_can_be_pasted(monkeypatch, capsys):
    arguments = ["train", "tokenizer", "x", "--set", "length=4 steps", "--runs=my runs", "--data", "it's $HOME"]
    code, said = ended(monkeypatch, capsys, Stopped("stopped"), *arguments)
    assert code == 130 and said.startswith("vistok: stopped. To continue, repeat the command: vistok train ")
    assert shlex.split(said.split("repeat the command: ")[1]) == ["vistok", *arguments]
    for words in (["sample", "--from", "fashion-crt"], ["evaluate", "generator", "run"]):  # they keep nothing
        said = ended(monkeypatch, capsys, Stopped("stopped"), *words)[1]
        assert (
            "What was not finished is not written; to start again, repeat the command: vistok " in said
            and "continue" not in said
        )
    monkeypatch.setattr("sys.argv", ["/x/vistok/__main__.py", "demo"])
    monkeypatch.setattr("sys.orig_argv", ["python", "-m", "vistok", "demo"])
    assert typed_command() == "python -m vistok demo"
    monkeypatch.setattr("sys.argv", [".venv/bin/vistok", "demo"])
    assert typed_command() == ".venv/bin/vistok demo"
    monkeypatch.setenv("RANK", "1")
    assert (
        "vistok (process 1): stopped. To continue, repeat the torchrun command"
        in ended(monkeypatch, capsys, Stopped("stopped"), "train")[1]
    )


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EIO, "Input/output error", "photos/1.png"), "vistok: photos/1.png: Input/output error\n"),
        (OSError(errno.EIO, "Input/output error"), "does not say for which file. It happened in: vistok sample 'a b'. "),
        (OSError(errno.EACCES, "Permission denied", "s.png.0123456789ab.partial", None, "s.png"), "vistok: s.png: "),
        (OSError(errno.EACCES, "Permission denied", "/a/s.png.0123456789ab.partial"), "vistok: /a/s.png: Permission"),
        (OSError(errno.ENOENT, "No such file", EVIL), f"vistok: {SHOWN}: No such file"),
        (UserError(f"image {EVIL}"), f"vistok: image {SHOWN}\n"),
        (MemoryError("Unable to allocate 8 GiB"), "vistok: not enough memory (Unable to allocate 8 GiB). Use smaller"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes"), "vistok: not enough memory (Default"),
    ],
)  # fmt: skip
def test_what_goes_wrong_outside_is_a_sentence(error, words, monkeypatch, capsys):
    code, said = ended(monkeypatch, capsys, error, "sample", "a b")
    assert code == 1 and words in said and "Traceback" not in said and "\x1b" not in said


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch, capsys):
    code, said = ended(monkeypatch, capsys, KeyError(EVIL))
    assert code == 1 and said.startswith("vistok: this is a bug in vistok") and "in verb" in said
    assert "\x1b" not in said and "\u202e" not in said


def test_names_are_shown_and_never_obeyed_by_the_terminal(capsys, monkeypatch):
    from rich.console import Console

    from vistok.engine.log import Progress

    for err in (False, True):
        options.say(f"image {EVIL}", err)
    printed = capsys.readouterr()
    assert printed.out == printed.err == f"image {SHOWN}\n"
    Progress().say(f"warning: {EVIL} [red]:cat:")
    assert capsys.readouterr().err == f"warning: {SHOWN} [red]:cat:\n"
    progress = Progress()
    monkeypatch.setattr(progress, "bars", None)
    with progress.task(f"features of {EVIL}", 1):
        pass
    assert SHOWN in capsys.readouterr().err
    with monkeypatch.context() as patch:  # a terminal: bars, whose names are no markup
        patch.setattr("vistok.engine.log.Console", lambda **_: Console(force_terminal=True, file=sys.stderr, width=200))
        on_a_terminal = Progress()
    with on_a_terminal.live(), on_a_terminal.task(f"features of [/x]{EVIL}", 1) as bar:
        bar.advance(1, note=f"[/y]{EVIL}")
    said = capsys.readouterr().err
    assert f"[/x]{SHOWN}" in said and "\u202e" not in said and "\x07" not in said and "cat\x1b[31m" not in said


def test_classes_with_escapes_are_listed_readably(capsys):
    from vistok.verbs.class_choice import chosen_labels

    assert exit_code_of(lambda: chosen_labels(["hat"], [EVIL], 1)) == 1
    said = capsys.readouterr().err
    assert f"unknown class 'hat'; there are 1: 0 {SHOWN}" in said and "\x1b" not in said


def test_output_that_nobody_takes_is_named(monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(typer, "echo", full)
    with pytest.raises(OSError, match="standard output"):
        options.say("text")


@pytest.mark.parametrize("scales", ["1,nan", "inf", "1,,2", "", "-1"])
def test_scales_to_choose_from_are_numbers(scales):
    from vistok.cli.evaluate import _scales

    with pytest.raises(UserError, match="--choose-guidance"):
        _scales(scales)


def test_a_value_is_given_once():
    for words in (("evaluate", "generator", "fashion-flow", "--guidance", 3, "--choose-guidance", "1,2"),
                  ("sample", "--from", "fashion-flow", "--steps", 5, "--set", "steps=3")):  # fmt: skip
        with pytest.raises(UserError, match="leave one out"):
            run(*words)


def test_recipes():
    listed = run("recipes")
    assert "fashion_crt" in listed and "images64_ar" in listed
    shown = run("recipes", "debug_crt")
    assert "training FLOPs" in shown and "memory" in shown
    assert run_json("recipes", "debug_ar", "--json")["debug_ar"]["resolved"]["steps"] == 40


def test_dry_run_writes_nothing(tmp_path, fashion_root):
    arguments = (
        "debug_crt",
        "--data",
        fashion_root,
        "--runs",
        tmp_path / "r",
        "--dry-run",
        "--json",
        "--set",
        "length=5 epochs",
    )
    plan = run_json("train", "tokenizer", *arguments)
    # 5 epochs of 1,000 images in batches of 16, the last one whole.
    assert plan["steps"] == 313 and plan["params"]["decoder"] > 0
    assert not (tmp_path / "r").exists()


def test_a_folder_is_kept_by_its_place_and_an_address_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    roots = [
        options.recipe_config("images64_vq", "tokenizer", [], data).data.root
        for data in ("photos", "https://x/{0..3}.tar", "a-{0..3}.tar")
    ]
    assert roots == [str(tmp_path / "photos"), "https://x/{0..3}.tar", "a-{0..3}.tar"]


def test_a_dry_run_counts_parts_of_a_run_in_flops(tmp_path, fashion_root):
    """Their cost was unknown where steps were timed, which was reported as a bug."""
    arguments = ("debug_crt", "--data", fashion_root, "--runs", tmp_path, "--dry-run", "--json", "--set")
    plan = run_json("train", "tokenizer", *arguments, "optimizer.warmup=1e8 flops", "--set", "crt.ramp=1e9 flops")
    assert plan["seconds_per_step"] > 0


@pytest.mark.slow
def test_own_images_go_the_whole_way(photo_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("vistok.scoring.evaluators.is_installed", lambda: False)
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
    dry = ("--tokenizer", tokenizers[0], *runs, *TINY, *small, "--dry-run", "--json")
    planned = run_json("train", "generator", "images64_ar", *dry)
    assert planned["steps"] == 4 and planned["num_classes"] == 3
    evaluator = run_of(run("train", "classifier", "images64_evaluator", *data, *runs, *TINY))

    assert "3 images" in run("sample", generators[0], "--count", 3, "--class", "waves", "--out", tmp_path / "s")
    assert size_of(tmp_path / "s.png") == (130, 130)  # three of one class: a square sheet
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


@pytest.mark.slow
def test_flat_folder_trains_without_classes(photo_folder, tmp_path):
    runs = ["--runs", tmp_path / "runs"]
    flat = photo_folder / "waves"
    tokenizer = run_of(run("train", "tokenizer", "images64_crt", "--data", flat, *runs, *TINY, *SMALL_NETWORK))
    generator = run_of(
        run("train", "generator", "images64_ar", "--tokenizer", tokenizer, *runs, *TINY, "--set", "generator.width=24")
    )
    run("sample", generator, "--count", 12, "--out", tmp_path / "flat")
    with pytest.raises(UserError, match="needs at least two classes"):
        run("train", "classifier", "images64_evaluator", "--data", flat, *runs, *TINY)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (("train", "images64_vq"), "vistok train tokenizer images64_vq --data FOLDER"),
        (("images64-flow",), "vistok train generator images64_flow --tokenizer RUN"),
        (("train", "fashion_guided"), "vistok shorten fashion_guided --teacher RUN"),
    ],
)
def test_a_recipe_in_the_place_of_a_command_is_answered_with_the_command(arguments, command):
    done = CliRunner().invoke(cli.app, list(arguments))
    assert done.exit_code == 2 and done.output.strip().endswith(command)


def test_help_begins_with_what_is_needed_first():
    listed = [
        line.split()[1] for line in CliRunner().invoke(cli.app, ["-h"]).output.splitlines() if line.startswith("│ ")
    ]
    assert [name for name in listed if name in ("start", "train", "sample", "diagnose")] == [
        "start",
        "train",
        "sample",
        "diagnose",
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "tokenizer", "fashion_ar"), "is for a generator, not a tokenizer"),
        (("train", "tokenizer", "debug_vq", "--set", "seeed=1"), "Did you mean 'seed'"),
        (("train", "tokenizer", "debug_vq", "--set", "execution.micro_batch_size=5"), "must divide batch_size 16"),
        (
            (
                "train",
                "generator",
                "fashion_ar",
                "--tokenizer",
                "fashion-crt",
                "--dry-run",
                "--set",
                "execution.micro_batch_size=7",
            ),
            "must divide",
        ),
        (
            ("train", "classifier", "debug_classifier", "--dry-run", "--set", "execution.micro_batch_size=7"),
            "must divide",
        ),
        (("train", "generator", "debug_ar", "--tokenizer", "nowhere"), "neither a path nor part of a run's name"),
        (("sample", "nowhere"), "neither a path nor part of a run's name"),
        (("evaluate", "tokenizer", "nowhere"), "neither a path nor part of a run's name"),
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


def test_verbs_of_one_process_refuse_several(monkeypatch, tmp_path):
    """Each would do all of it, and meet the other's lock."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = CliRunner().invoke(
        cli.app, ["reconstruct", "x.png", "--tokenizer", "run", "--out", str(tmp_path / "o.png")]
    )
    assert isinstance(found.exception, UserError)
    assert "vistok reconstruct runs in one process, found WORLD_SIZE=2: start it without torchrun" in str(
        found.exception
    )
