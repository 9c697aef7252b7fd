"""The command line: verbs and options only; everything heavy is imported inside the verb that needs it."""

import json
import os
import signal
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from vistok.cli import options
from vistok.cli.ending import exit_code_of
from vistok.cli.evaluate import evaluate_app
from vistok.cli.interop import export_app, import_app
from vistok.cli.options import Data, Runs, path, progress_bars, say
from vistok.cli.pictures import reconstruct, sample
from vistok.cli.start import start
from vistok.cli.study import advise, study_app
from vistok.cli.train import train_app
from vistok.engine.allocator import keep_freed_memory
from vistok.engine.spinning import bound_spinning
from vistok.errors import Stopped, UserError

app = typer.Typer(
    help="Train image tokenizers and the generators that model their tokens, and see what one costs the other.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(study_app, name="study")
app.add_typer(import_app, name="import")
app.add_typer(export_app, name="export")
app.command()(start)
app.command()(advise)
app.command()(sample)
app.command()(reconstruct)


# Verbs whose work several processes (torchrun) share.
SHARED = ("train", "cache", "evaluate", "sample")


@app.callback()
def before_a_verb(context: typer.Context) -> None:
    """Keep freed memory; what only prints help does without. Refuse several processes where they would do the same."""
    processes, verb = os.environ.get("WORLD_SIZE", "1"), context.invoked_subcommand
    if verb not in SHARED and processes != "1":
        raise UserError(
            f"vistok {verb} runs in one process, found WORLD_SIZE={processes}: start it without torchrun. Processes share "
            f"the work of {', '.join(SHARED)}"
        )
    keep_freed_memory()


@app.command()
def cache(
    tokenizer: Annotated[Path, typer.Argument(parser=path, help="Run directory (or exported file) of a tokenizer.")],
    split: Annotated[list[str], typer.Option(help="train, val, test; may be repeated.")] = ["train", "val", "test"],
    view: Annotated[
        list[str] | None,
        typer.Option(
            help="center, flip (may be repeated), or ten-crop, of images a tenth larger; default those of a cache that is "
            "there, else center."
        ),
    ] = None,
    image_size: options.ImageSize = None,
    out: Annotated[Path | None, typer.Option(parser=path, help="Folder of the cache; default: inside the run.")] = None,
    data: Data = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that decode images; default 8 where a GPU encodes, else none.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print bytes, and hours at a measured rate, and stop.")
    ] = False,
    anyway: options.Anyway = False,
) -> None:
    """Encode images to tokens, once."""
    from vistok.verbs.cache_latents import cache_tokens, plan_cache

    views = tuple(view) if view else None
    if out is not None and len(split) > 1:
        raise UserError("--out takes one split: add --split train (or val, or test)")
    options.require_alive(tokenizer, anyway or dry_run)
    if dry_run:
        plans = [plan_cache(tokenizer, name, data, views, image_size, workers) for name in split]
        say(json.dumps(plans, indent=2))
        return
    with progress_bars() as progress:
        for name in split:
            found = cache_tokens(tokenizer, name, progress, out, data, views, image_size, workers)
            say(f"{name}: {found.num_images} images, {found.latents.nbytes / 1e6:.1f} MB in {found.folder}")


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(parser=path, help="A run that has been evaluated.")],
    second: Annotated[Path, typer.Argument(parser=path, help="Another of the same kind.")],
) -> None:
    """Set the scores of two runs side by side; refuses scores of different protocols."""
    from vistok.verbs.compare import compare_runs

    for line in compare_runs(first, second):
        say(line)


@app.command()
def recipes(
    show: Annotated[str | None, typer.Option(help="Resolve one recipe: parameters, FLOPs, tokens, memory.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, for programs.")] = False,
) -> None:
    """List the recipes."""
    from vistok.verbs.show import recipe_json, recipe_lines, recipe_list

    if as_json:
        say(json.dumps(recipe_json([show] if show else None), indent=2))
    else:
        for line in recipe_lines(show) if show else recipe_list():
            say(line)


@app.command()
def demo(
    tiny: Annotated[bool, typer.Option("--tiny", help="Everything in under a minute, to see that it runs.")] = False,
    full: Annotated[bool, typer.Option("--full", help="About an hour, several seeds.")] = False,
    data: Annotated[Path, typer.Option("--data", parser=path, help="Where Fashion-MNIST is kept.")] = Path("data"),
    runs: Runs = Path("runs"),
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = False,
) -> None:
    """Run the main job: two tokenizers, two generators, samples, scores, one page."""
    from vistok.demo.sizes import demo_page, finished_answer

    if tiny and full:
        raise UserError("--tiny and --full exclude each other")
    size = "tiny" if tiny else "full" if full else "short"
    page, answer = demo_page(size, runs), finished_answer(size, runs)
    if answer is None:
        from vistok.demo.make import run_demo

        with progress_bars() as progress:
            page, answer = run_demo(size, data, runs, progress)
    say(answer)
    say(f"page: {page}")
    if open_page:
        typer.launch(str(page))


def main() -> NoReturn:
    """Run the command line; what goes wrong is printed as a sentence, with exit code 1 (130 where stopped, `cli/ending.py`)."""
    bound_spinning()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal may not know all letters of a name
            stream.reconfigure(errors="backslashreplace")
    code = exit_code_of(app)
    if "vistok.engine.distributed" in sys.modules:  # else there is no group, and help would wait for torch
        from vistok.engine.distributed import leave_world

        leave_world(code)
    sys.exit(code)


def _stop(number: int, frame: object) -> None:
    raise Stopped("stopped")
