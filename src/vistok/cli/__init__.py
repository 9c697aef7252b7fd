"""The command line: verbs and options only; everything heavy is imported inside the verb that needs it."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from vistok.cli import options
from vistok.cli.evaluate import evaluate_app
from vistok.cli.interop import export_app, import_app
from vistok.cli.options import Data, Runs, checked_weights, progress_bars, sampling_config, say
from vistok.cli.study import advise, study_app
from vistok.cli.train import train_app
from vistok.engine.allocator import keep_freed_memory
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
app.command()(advise)


@app.callback()
def before_a_verb() -> None:
    """Keep freed memory; what only prints help does without."""
    keep_freed_memory()


@app.command()
def cache(
    tokenizer: Annotated[Path, typer.Argument(help="Run directory (or exported file) of a tokenizer.")],
    split: Annotated[list[str], typer.Option(help="train, val, test; may be repeated.")] = ["train", "val", "test"],
    view: Annotated[
        list[str] | None,
        typer.Option(
            help="center, flip (may be repeated), or ten-crop, of images a tenth larger; default those of a cache that is "
            "there, else center."
        ),
    ] = None,
    image_size: options.ImageSize = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the cache; default: inside the run.")] = None,
    data: Data = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes that decode images; default 8 where a GPU encodes, else none.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print bytes, and hours at a measured rate, and stop.")
    ] = False,
) -> None:
    """Encode images to tokens, once."""
    from vistok.tasks.cache_tokens import cache_tokens, plan_cache

    views = tuple(view) if view else None
    if out is not None and len(split) > 1:
        raise UserError("--out takes one split: add --split train (or val, or test)")
    if dry_run:
        plans = [plan_cache(tokenizer, name, data, views, image_size, workers) for name in split]
        say(json.dumps(plans, indent=2))
        return
    with progress_bars() as progress:
        for name in split:
            found = cache_tokens(tokenizer, name, progress, out, data, views, image_size, workers)
            say(f"{name}: {found.num_images} images, {found.tokens.nbytes / 1e6:.1f} MB in {found.folder}")


@app.command()
def sample(
    generator: Annotated[Path | None, typer.Argument(help="Run directory (or exported file) of a generator.")] = None,
    shipped: Annotated[
        str | None, typer.Option("--from", help="A pair that comes with vistok: fashion-crt, fashion-baseline.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 40,
    out: Annotated[Path, typer.Option(help="File or folder to write.")] = Path("samples"),
    kind: Annotated[str, typer.Option("--format", help="grid (one PNG), png (a folder), npz (ADM's layout).")] = "grid",
    classes: Annotated[
        str | None, typer.Option("--class", help="Names or numbers, comma-separated; default all in turn.")
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option("--guidance", help="Classifier-free guidance scale; default 1 (off), of a shipped pair its best."),
    ] = None,
    temperature: options.Temperature = 1.0,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    seed: options.Seed = 0,
    weights: options.Weights = "ema",
    tokenizer: options.TokenizerPath = None,
    int8: options.Int8 = False,
    draft: Annotated[
        Path | None, typer.Option(help="A smaller generator of the same tokens, to write ahead: same samples.")
    ] = None,
    lookahead: Annotated[int, typer.Option(min=1, help="Tokens that the draft writes ahead.")] = 4,
) -> None:
    """Draw images from a generator."""
    from vistok.engine.distributed import join_world
    from vistok.tasks.load import load_generator, load_tokenizer_of
    from vistok.tasks.sample import make_sampler, parse_labels, sample_batches
    from vistok.tasks.sample_files import check_kind, write_samples
    from vistok.tasks.shipped import shipped_generator

    check_kind(kind)
    if (generator is None) == (shipped is None):
        raise UserError("give a generator's run directory, or --from a pair that comes with vistok (fashion-crt)")
    model = load_generator(generator, checked_weights(weights)) if generator else shipped_generator(str(shipped))
    if guidance is None:
        guidance = float(model.info.get("scores", {}).get("guidance_scale", 1.0))
    sampling = sampling_config(guidance, temperature, top_k, top_p, seed, int8)
    sampler = make_sampler(
        model, sampling, load_generator(draft, checked_weights(weights)) if draft else None, lookahead
    )
    names = model.info["class_names"]
    labels = parse_labels(classes, names, count)
    with progress_bars() as progress:
        world = join_world()
        decoder = load_tokenizer_of(model, tokenizer)
        batches = sample_batches(sampler, decoder, labels, progress, world=world)
        columns = min(count, len(names) if classes is None and len(names) > 1 else 10)
        place = write_samples(batches, labels, out, kind, columns, world)
    say(f"{count} images in {place}")
    if acceptance := getattr(sampler, "acceptance", None):
        say(f"{acceptance.rate:.1%} of the draft's guesses right, {acceptance.tokens_per_pass:.2f} tokens a pass")


@app.command()
def reconstruct(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    tokenizer: Annotated[Path, typer.Option("--tokenizer", help="Run directory or exported file of a tokenizer.")],
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("reconstruction.png"),
    weights: options.Weights = "ema",
) -> None:
    """Encode and decode images; writes originals above reconstructions."""
    from vistok.tasks.reconstruct import reconstruct_files

    quality = reconstruct_files(images, tokenizer, out, checked_weights(weights))
    for path, psnr in zip(images, quality, strict=True):
        say(f"{path}: PSNR {psnr:.2f} dB")
    say(f"originals above, reconstructions below, in {out}")


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="A run that has been evaluated.")],
    second: Annotated[Path, typer.Argument(help="Another of the same kind.")],
) -> None:
    """Set the scores of two runs side by side; refuses scores of different protocols."""
    from vistok.tasks.compare import compare_runs

    for line in compare_runs(first, second):
        say(line)


@app.command()
def recipes(
    show: Annotated[str | None, typer.Option(help="Resolve one recipe: parameters, FLOPs, tokens, memory.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, for programs.")] = False,
) -> None:
    """List the recipes."""
    from vistok.tasks.show import recipe_json, recipe_lines, recipe_list

    if as_json:
        say(json.dumps(recipe_json([show] if show else None), indent=2))
    else:
        for line in recipe_lines(show) if show else recipe_list():
            say(line)


@app.command()
def demo(
    tiny: Annotated[bool, typer.Option("--tiny", help="Everything in under a minute, to see that it runs.")] = False,
    full: Annotated[bool, typer.Option("--full", help="About an hour, several seeds.")] = False,
    data: Annotated[str, typer.Option("--data", help="Where Fashion-MNIST is kept.")] = "data",
    runs: Runs = Path("runs"),
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = False,
) -> None:
    """Run the main job: two tokenizers, two generators, samples, scores, one page."""
    from vistok.tasks.demo_sizes import demo_page, finished_answer

    if tiny and full:
        raise UserError("--tiny and --full exclude each other")
    size = "tiny" if tiny else "full" if full else "short"
    page, answer = demo_page(size, runs), finished_answer(size, runs)
    if answer is None:
        from vistok.tasks.demo import run_demo

        with progress_bars() as progress:
            page, answer = run_demo(size, Path(data), runs, progress)
    say(answer)
    say(f"page: {page}")
    if open_page:
        typer.launch(str(page))


def main() -> NoReturn:
    """Run the command line; what goes wrong is printed as a sentence, with exit code 1 (130 where stopped)."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    try:
        code = _run()
    except BaseException:  # a mistake of ours; a process of several still has to end as below
        sys.excepthook(*sys.exc_info())
        code = 1
    if "vistok.engine.distributed" in sys.modules:  # else there is no group, and help would wait for torch
        from vistok.engine.distributed import leave_world

        leave_world(code)
    sys.exit(code)


def _run() -> int:
    rank = os.environ.get("RANK", "0")
    name = "vistok" if rank == "0" else f"vistok (process {rank})"
    try:
        app(standalone_mode=True)
        return 0
    except SystemExit as done:  # how typer ends
        return int(done.code or 0)
    except UserError as error:
        typer.echo(f"{name}: {error}", err=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of our output is gone
    except OSError as error:
        typer.echo(f"{name}: {error.filename or 'a file'}: {error.strerror or error}", err=True)
    except Stopped as stopped:
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        typer.echo(f"{name}: {stopped}. Repeat the command to go on: {command}", err=True)
        return 130
    return 1


def _stop(number: int, frame: object) -> None:
    raise Stopped("stopped")
