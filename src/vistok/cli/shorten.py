"""vistok shorten: from a trained generator to one that needs fewer calls for an image."""

from pathlib import Path
from typing import Annotated

import typer

from vistok.cli import options
from vistok.cli.options import AsJson, Data, DryRun, Name, Recipe, Runs, Set, Strict, place, recipe_config
from vistok.cli.train import initial, train_on_latents


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
    tokenizer: Annotated[
        str | None,
        typer.Option(
            "--tokenizer",
            parser=place,
            metavar="RUN",
            help="The teacher's tokenizer, if it was moved, or one of which only the decoder was trained further.",
        ),
    ] = None,
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
    from vistok.runs.teacher import image_size_of, require_teachers_network, tokenizer_of, with_teacher
    from vistok.verbs.shorten import require_images_of

    found = options.found_run(teacher, "generator", runs)
    require_teachers_network(settings)
    begun = recipe_config(recipe, "shortcut", settings, None, None, name)
    begun = begun.replace(init_from=initial(init_from, "generator", runs) or begun.init_from)
    config = with_teacher(begun, str(found.resolve()))
    decoder = tokenizer_of(config, None if tokenizer is None else options.found_run(tokenizer, "tokenizer", runs))
    size = image_size_of(config)
    options.require_alive(found, anyway or dry_run, decoder)
    if init_from is not None and begun.init_from:
        options.require_alive(begun.init_from, anyway or dry_run, decoder)
    require_images_of(config, decoder, data)
    train_on_latents(config, decoder, data, size, runs, dry_run=dry_run, as_json=as_json, strict=strict)
