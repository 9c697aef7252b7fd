"""What to type instead of an option that a command does not have: a field to set, or the option that does it."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

import typer

from vistok.errors import printable

# The configs behind --set, by the last words of a command.
CONFIGS = {
    "train tokenizer": "vistok.runs.config:TokenizerRun",
    "train generator": "vistok.runs.config:GeneratorRun",
    "train classifier": "vistok.runs.config:ClassifierRun",
    "study run": "vistok.study.config:StudyConfig",
}
# The unit of a length, by what people call it.
UNITS = {
    "steps": " steps",
    "num_steps": " steps",
    "max_steps": " steps",
    "iterations": " steps",
    "epochs": " epochs",
    "num_epochs": " epochs",
}
OUTPUTS = ("output", "out", "o", "output_dir", "out_dir", "outdir", "save_dir", "logdir")
NOT_SET = {
    "seed": "It draws nothing at random, so there is no seed",
    "batch_size": "It takes as many images at once as suits the machine; their number changes no score",
    "device": "It runs on the GPU where there is one; to hide that, write CUDA_VISIBLE_DEVICES= in front of the command",
}


@contextmanager
def advised(context: Any, typed: Sequence[str]) -> Iterator[None]:
    """Parse a command line: an unknown option that is known elsewhere ends the command with one sentence and code 2."""
    try:
        yield
    except Exception as error:  # click's, which some versions of typer bring and others import
        option = getattr(error, "option_name", None)
        if type(error).__name__ != "NoSuchOption" or not (advice := advice_on(str(option), context, typed)):
            raise
        where = f"{' '.join(_words(context))} has no" if context.parent else "there is no"
        _refuse(f"{where} option {option}. {advice}")


def _refuse(words: str) -> NoReturn:
    """End with code 2 and a sentence, not in a frame, which would break the command to paste."""
    typer.echo(printable(f"vistok: {words}"), err=True)
    raise typer.Exit(2) from None


def refuse_recipe(context: Any, typed: Sequence[str]) -> None:
    """End with what to type if a recipe stands where a command should, as in `vistok train images64_vq`."""
    name = typed[0].replace("-", "_") if typed else ""
    if not name or typed[0] in context.command.commands:
        return
    from vistok.recipes import command_of, recipe_kinds

    if kind := recipe_kinds().get(name):
        _refuse(f"{typed[0]} is a recipe, which stands behind a command: {command_of(name, kind)}")


def _words(context: Any) -> list[str]:
    """Return a command's words, as in ["train", "tokenizer"]."""
    return [*_words(context.parent), context.info_name] if context.parent else []


def advice_on(option: str, context: Any, typed: Sequence[str]) -> str:
    """Return what to type instead of an unknown option; empty where nothing is known, and click guesses by spelling."""
    name = option.lstrip("-").replace("-", "_")
    own = [known for parameter in context.command.params for known in getattr(parameter, "opts", ())]
    if context.parent is None:
        return "Write it behind a command, as in vistok sample RUN --quiet" if name in ("quiet", "q") else ""
    if name in OUTPUTS:
        return _output(own, context.info_name)
    if name == "dry_run" and context.info_name == "start":
        return "Without --go, start only makes a plan"
    if name in ("resume", "continue"):
        return "Repeat the same command: it goes on where it stopped"
    command = f"{context.parent.info_name} {context.info_name}"
    if name == "config" and command.startswith("study"):
        return f"Write the file in place of the study's name, as in vistok {command} my.yaml"
    if command in CONFIGS:
        return _setting(name, _value_of(option, typed), CONFIGS[command])
    if command.startswith("study") or context.info_name in ("demo", "start"):
        return "" if name not in NOT_SET else "Its runs take theirs from recipes; vistok recipes NAME shows them"
    from vistok.config_paths import SYNONYMS

    return NOT_SET.get(SYNONYMS.get(name, name), "")


def _output(own: Sequence[str], command: str) -> str:
    for known, words in (
        ("--out", "Write --out PATH"),
        ("--runs", "Write --runs FOLDER: run directories are made there"),
    ):
        if known in own:
            return words
    if command in ("tokenizer", "generator"):
        return "Scores are kept in the run's folder evaluations; --json prints them"
    return "It prints its result; write > FILE to keep it, with --json in a form for programs"


def _setting(name: str, value: str, place: str) -> str:
    """Return the --set that does what an option was meant to do."""
    from vistok.config_paths import matching_paths

    module, _, config = place.partition(":")
    if place.endswith("StudyConfig") and name == "seed":  # those of its runs come from its grids
        return f"Every grid has its seeds: --set {shlex.quote(f'grids.0.seeds=[{value}]')}"
    found = matching_paths(getattr(import_module(module), config), name)
    if not found:
        return ""
    settings = [f"--set {shlex.quote(f'{path}={value}{UNITS.get(name, str())}')}" for path in found[:3]]
    return f"It is a field of the config: {' or '.join(settings)}"


def _value_of(option: str, typed: Sequence[str]) -> str:
    """Return the value that was typed for an option, else VALUE."""
    for word, after in zip(typed, [*typed[1:], ""], strict=True):
        if word.startswith(f"{option}="):
            return word.removeprefix(f"{option}=")
        if word == option and after and not after.startswith("-"):
            return after
    return "VALUE"
