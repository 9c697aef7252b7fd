"""vistok shorten: from a trained generator to one that needs fewer calls for an image."""

from pathlib import Path
from typing import Annotated

import typer

from vistok.cli import options
from vistok.cli.options import AsJson, Data, DryRun, Name, Recipe, Runs, Set, place, recipe_config
from vistok.cli.train import Strict, initial, train_on_latents


def shorten(
    recipe: Recipe,
    teacher: Annotated[
        str,
        typer.Option(
            "--teacher", parser=place, metavar="RUN", help="The trained generator: run, file or shipped pair."
        ),
    ],
    settings: Set = [],
    data: Data = None,
    tokenizer: options.TokenizerPath = None,
    runs: Runs = Path("runs"),
    name: Name = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
    init_from: Annotated[
        str | None,
        typer.Option(
            parser=place,
            metavar="RUN",
            help="Begin with the weights of this shortened generator instead of the teacher's.",
        ),
    ] = None,
    strict: Strict = False,
    anyway: options.Anyway = False,
) -> None:
    """Train a generator that needs fewer calls than its teacher, as in: vistok shorten fashion_guided --teacher fashion-flow."""
    from vistok.runs.find import find_run
    from vistok.runs.teacher import image_size_of, tokenizer_of, with_teacher

    found = find_run(teacher, "generator", runs)
    begun = recipe_config(recipe, "shortcut", settings, None, None, name)
    config = with_teacher(begun, str(found.resolve())).replace(init_from=initial(init_from, "generator", runs) or "")
    decoder = tokenizer or tokenizer_of(config)
    size = image_size_of(config)
    options.require_alive(found, anyway or dry_run, decoder)
    train_on_latents(config, decoder, data, size, runs, dry_run=dry_run, as_json=as_json, strict=strict)
