"""vistok train: train a tokenizer, a generator or a classifier."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vistok.cli import options
from vistok.cli.commands import App
from vistok.cli.ending import ALARMED
from vistok.cli.options import (
    AsJson,
    Data,
    DryRun,
    Name,
    Recipe,
    Runs,
    Set,
    Strict,
    place,
    progress_bars,
    recipe_config,
    say,
)
from vistok.errors import UserError

if TYPE_CHECKING:
    from vistok.runs.job import Job
    from vistok.verbs.dry_run import DryRun as Planned

train_app = App(help="Train a tokenizer, a generator or a classifier; repeat the command to resume.")


@train_app.command("tokenizer")
def train_tokenizer(
    recipe: Recipe,
    settings: Set = [],
    data: Data = None,
    runs: Runs = Path("runs"),
    name: Name = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    init_from: Annotated[
        str | None,
        typer.Option(
            parser=place,
            metavar="RUN",
            help="Fine-tune this tokenizer (run, file or shipped name), keeping its network.",
        ),
    ] = None,
    proxy: Annotated[
        str | None,
        typer.Option(
            parser=place,
            metavar="RUN",
            help="Learn the tokens of this grid tokenizer (run, file or shipped name), with a recipe such as fashion_proxy_line.",
        ),
    ] = None,
    codes: Annotated[
        str | None,
        typer.Option(
            parser=place,
            metavar="RUN",
            help="Of a renderer: the tokenizer whose tokens it draws (run, file or shipped name).",
        ),
    ] = None,
    strict: Strict = False,
    anyway: options.Anyway = False,
) -> None:
    """Train a tokenizer, as in: vistok train tokenizer fashion_crt."""
    init_from = initial(init_from, "tokenizer", runs)
    proxy = initial(proxy, "tokenizer", runs, "--proxy")
    codes = initial(codes, "tokenizer", runs, "--codes")
    for begun_with in filter(None, (init_from, proxy, codes)):
        options.require_alive(begun_with, anyway or dry_run)
    config = recipe_config(recipe, "tokenizer", settings, data, init_from, name, proxy, codes)
    if dry_run:
        from vistok.verbs.dry_run import dry_tokenizer

        tell_plan(dry_tokenizer(config), as_json)
        return
    from vistok.verbs.train_tokenizer import prepare

    train_to_end(lambda: prepare(config, runs), strict)


@train_app.command("generator")
def train_generator(
    recipe: Recipe,
    tokenizer: Annotated[
        str, typer.Option("--tokenizer", parser=place, metavar="RUN", help="Its tokenizer: run, file or shipped name.")
    ],
    settings: Set = [],
    data: Data = None,
    image_size: options.ImageSize = None,
    runs: Runs = Path("runs"),
    name: Name = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    init_from: Annotated[
        str | None,
        typer.Option(
            parser=place,
            metavar="RUN",
            help="Fine-tune this generator (run, file or shipped name), keeping its network: it learns new pictures from "
            "fewer of them, best on tokens of its own tokenizer.",
        ),
    ] = None,
    strict: Strict = False,
    anyway: options.Anyway = False,
) -> None:
    """Train a generator on a tokenizer's tokens, which are cached first if necessary."""
    found = options.found_run(tokenizer, "tokenizer", runs)
    init_from = initial(init_from, "generator", runs)
    config = recipe_config(recipe, "generator", settings, None, init_from, name)
    options.require_alive(found, anyway or dry_run)
    if init_from is not None:
        options.require_alive(init_from, anyway or dry_run)
    train_on_latents(config, found, data, image_size, runs, dry_run=dry_run, as_json=as_json, strict=strict)


@train_app.command("classifier")
def train_classifier(
    recipe: Recipe,
    settings: Set = [],
    data: Data = None,
    runs: Runs = Path("runs"),
    name: Name = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Train a classifier on the classes of your images, to use as their evaluator."""
    config = recipe_config(recipe, "classifier", settings, data, name=name)
    if dry_run:
        from vistok.verbs.dry_run import dry_classifier

        tell_plan(dry_classifier(config), as_json)
        return
    from vistok.verbs.train_classifier import prepare

    train_to_end(lambda: prepare(config, runs))


def train_on_latents(
    config: Any, tokenizer: Path, data: str | None, image_size: int | None, runs: Path, *, dry_run: bool, as_json: bool,
    strict: bool,
) -> None:  # fmt: skip
    """Train a generator of any kind on a tokenizer's latents, which are cached first if necessary, or say what it would cost."""
    if dry_run:
        from vistok.verbs.dry_run import dry_generator

        tell_plan(dry_generator(config, tokenizer, data, image_size), as_json)
        return
    from vistok.verbs.cache_latents import cache_tokens
    from vistok.verbs.train_generator import prepare, require_fits

    with progress_bars() as progress:
        require_fits(config, tokenizer, image_size)
        train, validation = (
            cache_tokens(tokenizer, split, progress, root=data, image_size=image_size) for split in ("train", "val")
        )
        job = prepare(config, train, validation, tokenizer, runs, data, progress)
    train_to_end(lambda: job, strict)


def initial(text: str | None, kind: str, runs: Path, option: str = "--init-from") -> str | None:
    """Return the run, file, checkpoint or shipped name that an option means."""
    from vistok.runs.find import is_run_or_file, lasting

    if text is None or is_run_or_file(Path(text)):
        return text
    try:
        found = options.found_run(text, kind, runs)
    except UserError as error:
        raise UserError(f"{option}: {error}") from None
    return lasting(text, found, kind)


def tell_plan(planned: "Planned", as_json: bool) -> None:
    """Print what a training would cost."""
    for line in [json.dumps(planned.as_json(), indent=2)] if as_json else planned.lines():
        say(line)


def train_to_end(prepare: "Callable[[], Job]", strict: bool = False) -> None:
    """Train to the end; raises typer.Exit if `strict` and the run ended with alarms."""
    with progress_bars() as progress:
        with progress.doing("opening the data and counting the work"):
            job = prepare()
        finished = job.finished
        job.train(progress)
    if not options.main_process():
        return
    from vistok.overview.page import write_picture
    from vistok.overview.record import RunRecord
    from vistok.overview.verdict import verdict
    from vistok.runs.health.gate import alarms_of

    run = job.run_dir.path
    record = RunRecord(run)
    say(f"{'was finished already' if finished else 'finished'}: {run}")
    if not finished:
        write_picture(record)
    say(f"{verdict(record)} Its page: {run}/page.html")
    if strict and alarms_of(run):
        raise typer.Exit(ALARMED)
