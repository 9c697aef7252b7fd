"""The command line: only commands and options; heavy imports happen inside the commands that need them."""

import json
import os
import signal
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from vistok.cli import options
from vistok.cli.commands import App
from vistok.cli.diagnose import diagnose
from vistok.cli.ending import exit_code_of
from vistok.cli.evaluate import evaluate_app
from vistok.cli.in_browser import app_command
from vistok.cli.interop import export_app, import_app
from vistok.cli.options import Data, Runs, path, progress_bars, run_of, say, terminal_width
from vistok.cli.pictures import reconstruct, sample
from vistok.cli.runs import runs_command, show
from vistok.cli.shorten import shorten
from vistok.cli.start import start
from vistok.cli.study import advise, study_app
from vistok.cli.train import train_app
from vistok.engine.allocator import keep_freed_memory
from vistok.engine.processors import leave_room
from vistok.engine.spinning import bound_spinning
from vistok.errors import Stopped, UserError, counted

app = App(
    help="Train image tokenizers and the generators that model their tokens, and see how one affects the other.",
    pretty_exceptions_enable=False,
)
app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(study_app, name="study")
app.add_typer(import_app, name="import")
app.add_typer(export_app, name="export")
app.command()(shorten)
app.command()(diagnose)
app.command()(start)
app.command()(advise)
app.command("runs")(runs_command)
app.command()(show)
app.command("app")(app_command)
app.command()(sample)
app.command()(reconstruct)


# Commands whose work can be shared by several processes (torchrun).
SHARED = ("train", "shorten", "cache", "evaluate", "sample")


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        from vistok import __version__

        say(f"vistok {__version__} (Python {sys.version.split()[0]}, torch {version('torch')})")
        raise typer.Exit


@app.callback()
def before_a_verb(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Reject several processes where each would repeat the same work. Except when printing help: keep freed memory, choose threads."""
    processes, verb = os.environ.get("WORLD_SIZE", "1"), context.invoked_subcommand
    if verb not in SHARED and processes != "1":
        raise UserError(
            f"vistok {verb} runs in one process, found WORLD_SIZE={processes}: start it without torchrun. Only these commands "
            f"can use several processes: {', '.join(SHARED)}"
        )
    keep_freed_memory()
    leave_room()


@app.command()
def cache(
    tokenizer: Annotated[Path, typer.Argument(parser=run_of("tokenizer"), metavar="RUN", help=options.A_TOKENIZER)],
    split: Annotated[list[str], typer.Option(help="train, val or test; may be repeated.")] = ["train", "val", "test"],
    view: Annotated[
        list[str] | None,
        typer.Option(
            help="center, flip (may be repeated); or ten-crop, from images a tenth larger; or N random crops as in the "
            "tokenizer's training, as in 40-crops. Default: those of an existing cache, else center."
        ),
    ] = None,
    image_size: options.ImageSize = None,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=path, help="Folder for the cache; default: inside the run (of a file: in the user's cache folder)."
        ),
    ] = None,
    data: Data = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that decode images; default: 8 if a GPU encodes, else none.")
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Print the size in bytes, and the hours at a rate measured on some of the images, then stop.",
        ),
    ] = False,
    anyway: options.Anyway = False,
) -> None:
    """Encode images to tokens once, so that training need not do it again."""
    from vistok.verbs.cache_latents import cache_tokens, plan_cache

    views = tuple(view) if view else None
    if out is not None and len(split) > 1:
        raise UserError("--out works with a single split: add --split train (or val, or test)")
    options.require_alive(tokenizer, anyway or dry_run)
    if dry_run:
        plans = [plan_cache(tokenizer, name, data, views, image_size, workers) for name in split]
        say(json.dumps(plans, indent=2))
        return
    with progress_bars() as progress:
        for name in split:
            tokens = cache_tokens(tokenizer, name, progress, out, data, views, image_size, workers)
            size = tokens.latents.nbytes
            in_words = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
            say(f"{name}: {counted(tokens.num_images, 'image')}, {in_words} in {tokens.folder}")


@app.command()
def compare(
    compared: Annotated[
        list[Path],
        typer.Argument(
            parser=run_of(), metavar="RUN", help="Runs of one kind: paths, parts of their names, or latest."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print as CSV: a line for each score of each run.")] = False,
) -> None:
    """Set the scores of runs side by side, with intervals of their differences; what cannot be compared is named."""
    from vistok.verbs.compare import comparison

    if as_json and as_csv:
        raise UserError("--json and --csv exclude each other; give one of them, or neither")
    found = comparison(compared)
    if as_json:
        say(json.dumps(found.as_json(), indent=2))
    elif as_csv:
        say(found.as_csv().rstrip("\n"))
    else:
        for line in found.lines(terminal_width()):
            say(line)


@app.command()
def recipes(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Recipes to show in full: config, parameters, FLOPs, tokens, memory.", metavar="NAME"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print as JSON; without names: all recipes with their configs.")
    ] = False,
) -> None:
    """List the recipes, or show some."""
    from vistok.verbs.recipe_list import recipe_list
    from vistok.verbs.show import list_json, recipe_json, recipe_lines

    if as_json:
        say(json.dumps({name: recipe_json(name) for name in names} if names else list_json(), indent=2))
    else:
        for line in [line for name in names for line in recipe_lines(name)] if names else recipe_list():
            say(line)


@app.command()
def demo(
    tiny: Annotated[
        bool, typer.Option("--tiny", help="Do everything in under a minute, to see that it works.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Train the tokenizers as well: half an hour or more.")] = False,
    data: Annotated[Path, typer.Option("--data", parser=path, help="Folder for the Fashion-MNIST download.")] = Path(
        "data"
    ),
    runs: Runs = Path("runs"),
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = False,
) -> None:
    """See what the causal regularizer does: generators on tokenizers without and with it, scores, one page of results."""
    from vistok.demo.sizes import demo_page, finished_answer

    if tiny and full:
        raise UserError("--tiny and --full exclude each other; give one of them, or neither")
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
    """Run the command line. Errors print as one sentence, with exit code 1 (130 if stopped); see `cli/ending.py`."""
    bound_spinning()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a terminal may be unable to show some characters of a name
            stream.reconfigure(errors="backslashreplace")
    code = exit_code_of(app)
    if (
        "vistok.engine.distributed" in sys.modules
    ):  # else there is no process group, and help would have to wait for torch
        from vistok.engine.distributed import leave_world

        leave_world(code)
    sys.exit(code)


def _stop(number: int, frame: object) -> None:
    Stopped.asked = True
    raise Stopped("stopped")
