"""vistok train: train a tokenizer, a generator or a classifier."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vistok.cli import options
from vistok.cli.commands import App
from vistok.cli.ending import ALARMED
from vistok.cli.options import Data, DryRun, Recipe, Runs, Set, path, place, progress_bars, recipe_config, say

if TYPE_CHECKING:
    from vistok.runs.job import Job

train_app = App(help="Train a tokenizer, a generator or a classifier; repeat the command to resume.")


Strict = Annotated[bool, typer.Option("--strict", help=f"Exit with code {ALARMED} if the run ends with alarms.")]


@train_app.command("tokenizer")
def train_tokenizer(
    recipe: Recipe,
    settings: Set = [],
    data: Data = None,
    runs: Runs = Path("runs"),
    dry_run: DryRun = False,
    init_from: Annotated[
        str | None,
        typer.Option(parser=place, help="Fine-tune this tokenizer (run directory or file), keeping its network."),
    ] = None,
    strict: Strict = False,
) -> None:
    """Train a tokenizer, as in: vistok train tokenizer fashion_crt."""
    from vistok.verbs.train_tokenizer import prepare

    config = recipe_config(recipe, "tokenizer", settings, data, init_from)
    if init_from is not None:
        options.require_alive(init_from, anyway=True)  # fine-tuning may be meant to repair it
    _train(lambda: prepare(config, runs), dry_run, strict)


@train_app.command("generator")
def train_generator(
    recipe: Recipe,
    tokenizer: Annotated[Path, typer.Option("--tokenizer", parser=path, help="Run directory of a trained tokenizer.")],
    settings: Set = [],
    data: Data = None,
    image_size: options.ImageSize = None,
    runs: Runs = Path("runs"),
    dry_run: DryRun = False,
    init_from: Annotated[
        str | None,
        typer.Option(
            parser=place,
            help="Fine-tune this generator (run directory or file), keeping its network: it learns new pictures from fewer "
            "of them, best on tokens of its own tokenizer.",
        ),
    ] = None,
    strict: Strict = False,
    anyway: options.Anyway = False,
) -> None:
    """Train a generator on a tokenizer's tokens, which are cached first if necessary."""
    from vistok.verbs.cache_latents import cache_tokens
    from vistok.verbs.train_generator import dry_plan, prepare

    config = recipe_config(recipe, "generator", settings, None, init_from)
    options.require_alive(tokenizer, anyway or dry_run)
    if dry_run:
        say(json.dumps(dry_plan(config, tokenizer, data, image_size), indent=2))
        return
    with progress_bars() as progress:
        train, validation = (
            cache_tokens(tokenizer, split, progress, root=data, image_size=image_size) for split in ("train", "val")
        )
    _train(lambda: prepare(config, train, validation, tokenizer, runs), False, strict)


@train_app.command("classifier")
def train_classifier(
    recipe: Recipe, settings: Set = [], data: Data = None, runs: Runs = Path("runs"), dry_run: DryRun = False
) -> None:
    """Train a classifier on the classes of your images, to use as their evaluator."""
    from vistok.verbs.train_classifier import prepare

    config = recipe_config(recipe, "classifier", settings, data)
    _train(lambda: prepare(config, runs), dry_run)


def _train(prepare: Any, dry_run: bool, strict: bool = False) -> None:
    """Train to the end; raises typer.Exit if `strict` and the run ended with alarms."""
    job: Job = prepare()
    summary = job.plan.summary(job.config)
    if dry_run:
        say(json.dumps({"run": str(job.run_dir.path), **summary, **job.facts}, indent=2))
        return
    finished = job.finished
    with progress_bars() as progress:
        job.train(progress)
    from vistok.runs.health.gate import alarms_of, closing_words

    alarms = alarms_of(job.run_dir.path)
    ended = "was finished already" if finished else "finished"
    say(f"{ended}{closing_words(alarms)}: {job.run_dir.path}")
    if strict and alarms:
        raise typer.Exit(ALARMED)
