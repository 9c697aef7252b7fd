"""The command line: verbs and options only; everything heavy is imported inside the verb that needs it."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from vistok.errors import UserError

if TYPE_CHECKING:
    from vistok.tasks.setup import Job

app = typer.Typer(
    help="Train image tokenizers and the generators that model their tokens, and see what one costs the other.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
train_app = typer.Typer(
    help="Train a tokenizer, a generator or a classifier; repeat the command to resume.", no_args_is_help=True
)
evaluate_app = typer.Typer(help="Score a trained tokenizer or generator.", no_args_is_help=True)
app.add_typer(train_app, name="train")
app.add_typer(evaluate_app, name="evaluate")

Runs = Annotated[Path, typer.Option("--runs", help="Folder of run directories.")]
Recipe = Annotated[str, typer.Argument(help="A recipe; vistok recipes lists them.")]
Set = Annotated[list[str], typer.Option("--set", help="Change a config value, as in --set seed=1; may be repeated.")]
Data = Annotated[str | None, typer.Option("--data", help="Folder of images (or where downloads are kept).")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print steps, parameters, FLOPs and memory, and stop.")]
Weights = Annotated[str, typer.Option(help="ema (averaged) or raw.")]
Evaluator = Annotated[
    str | None, typer.Option(help="Classifier run or file whose features score; default by data set.")
]
Inception = Annotated[str | None, typer.Option(help="File of torch-fidelity's Inception weights.")]
Guidance = Annotated[float, typer.Option("--guidance", help="Classifier-free guidance scale; 1 is off.")]
Temperature = Annotated[float, typer.Option(help="Softmax temperature; 0 takes the most likely token.")]
TopK = Annotated[int | None, typer.Option(help="Keep the k most likely tokens.")]
TopP = Annotated[float | None, typer.Option(help="Keep the most likely tokens up to this probability.")]
Seed = Annotated[int, typer.Option(help="Seed of the samples.")]
TokenizerPath = Annotated[str | None, typer.Option("--tokenizer", help="Tokenizer run, where it moved.")]


@train_app.command("tokenizer")
def train_tokenizer(
    recipe: Recipe, settings: Set = [], data: Data = None, runs: Runs = Path("runs"), dry_run: DryRun = False
) -> None:
    """Train a tokenizer: vistok train tokenizer fashion_crt."""
    from vistok.tasks.train_tokenizer import prepare

    config = _config(recipe, "tokenizer", settings, data)
    _train(lambda: prepare(config, runs), dry_run)


@train_app.command("generator")
def train_generator(
    recipe: Recipe,
    tokenizer: Annotated[Path, typer.Option("--tokenizer", help="Run directory of a trained tokenizer.")],
    settings: Set = [],
    data: Data = None,
    runs: Runs = Path("runs"),
    dry_run: DryRun = False,
) -> None:
    """Train a generator on a tokenizer's tokens (cached first, if they are not yet)."""
    from vistok.tasks.cache_tokens import cache_tokens
    from vistok.tasks.train_generator import dry_plan, prepare

    config = _config(recipe, "generator", settings, None)
    if dry_run:
        _print(json.dumps(dry_plan(config, tokenizer, data), indent=2))
        return
    with _progress() as progress:
        train, validation = (cache_tokens(tokenizer, split, progress, root=data) for split in ("train", "val"))
    _train(lambda: prepare(config, train, validation, tokenizer, runs), False)


@train_app.command("classifier")
def train_classifier(
    recipe: Recipe, settings: Set = [], data: Data = None, runs: Runs = Path("runs"), dry_run: DryRun = False
) -> None:
    """Train a classifier on your classes, to be the evaluator of your images."""
    from vistok.tasks.train_classifier import prepare

    config = _config(recipe, "classifier", settings, data)
    _train(lambda: prepare(config, runs), dry_run)


@app.command()
def cache(
    tokenizer: Annotated[Path, typer.Argument(help="Run directory (or exported file) of a tokenizer.")],
    split: Annotated[list[str], typer.Option(help="train, val, test; may be repeated.")] = ["train", "val", "test"],
    view: Annotated[list[str], typer.Option(help="center, flip; may be repeated.")] = ["center"],
    out: Annotated[Path | None, typer.Option(help="Folder of the cache; default: inside the run.")] = None,
    data: Data = None,
) -> None:
    """Encode images to tokens, once."""
    from vistok.tasks.cache_tokens import cache_tokens

    if out is not None and len(split) > 1:
        raise UserError("--out takes one split: add --split train (or val, or test)")
    with _progress() as progress:
        for name in split:
            found = cache_tokens(tokenizer, name, progress, out, data, tuple(view))
            _print(f"{name}: {found.num_images} images, {found.tokens.nbytes / 1e6:.1f} MB in {found.folder}")


@app.command()
def sample(
    generator: Annotated[Path, typer.Argument(help="Run directory (or exported file) of a generator.")],
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 40,
    out: Annotated[Path, typer.Option(help="File or folder to write.")] = Path("samples"),
    kind: Annotated[str, typer.Option("--format", help="grid (one PNG), png (a folder), npz (ADM's layout).")] = "grid",
    classes: Annotated[
        str | None, typer.Option("--class", help="Names or numbers, comma-separated; default all in turn.")
    ] = None,
    guidance: Guidance = 1.0,
    temperature: Temperature = 1.0,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Seed = 0,
    weights: Weights = "ema",
    tokenizer: TokenizerPath = None,
) -> None:
    """Draw images from a generator."""
    from vistok.engine.distributed import join_world
    from vistok.generator.config import SamplingConfig
    from vistok.tasks.load import load_generator, load_tokenizer_of
    from vistok.tasks.sample import parse_labels, sample_batches, write_samples

    sampling = _checked(
        SamplingConfig, guidance_scale=guidance, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
    )
    model = load_generator(generator, _weights(weights))
    names = model.info["class_names"]
    labels = parse_labels(classes, names, count)
    with _progress() as progress:
        world = join_world()
        decoder = load_tokenizer_of(model, tokenizer)
        images = world.join(list(sample_batches(model, decoder, labels, sampling, progress, world=world)))
    columns = min(count, len(names) if classes is None and len(names) > 1 else 10)
    if world.main:
        _print(f"{len(images)} images in {write_samples(images, labels, out, kind, columns)}")


@app.command()
def reconstruct(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    tokenizer: Annotated[Path, typer.Option("--tokenizer", help="Run directory or exported file of a tokenizer.")],
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("reconstruction.png"),
    weights: Weights = "ema",
) -> None:
    """Encode and decode images; writes originals above reconstructions."""
    from vistok.tasks.reconstruct import reconstruct_files

    quality = reconstruct_files(images, tokenizer, out, _weights(weights))
    for path, psnr in zip(images, quality, strict=True):
        _print(f"{path}: PSNR {psnr:.2f} dB")
    _print(f"originals above, reconstructions below, in {out}")


@evaluate_app.command("tokenizer")
def evaluate_tokenizer(
    run: Annotated[Path, typer.Argument(help="Run directory or exported file of a tokenizer.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    weights: Weights = "ema",
    evaluator: Evaluator = None,
    inception: Inception = None,
    data: Data = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Score reconstructions: PSNR, SSIM, Frechet distance, codebook usage and entropies."""
    from vistok.tasks.evaluate_tokenizer import evaluate_tokenizer as evaluate
    from vistok.tasks.show import tokenizer_lines

    extractor, why = _extractor_of_tokenizer(run, evaluator, inception, data)
    with _progress() as progress:
        scores = evaluate(run, extractor, progress, split, _weights(weights), data)
    if why:
        typer.echo(f"no Frechet distance: {why}", err=True)
    _show(scores, as_json, tokenizer_lines)


@evaluate_app.command("generator")
def evaluate_generator(
    run: Annotated[Path, typer.Argument(help="Run directory of a generator.")],
    count: Annotated[int, typer.Option(min=2, help="Number of samples.")] = 10_000,
    split: Annotated[str, typer.Option(help="Reference images: train, val or test.")] = "test",
    guidance: Guidance = 1.0,
    temperature: Temperature = 1.0,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Seed = 0,
    weights: Weights = "ema",
    tokenizer: TokenizerPath = None,
    evaluator: Evaluator = None,
    inception: Inception = None,
    data: Data = None,
    choose: Annotated[
        str | None,
        typer.Option("--choose-guidance", help="Scales to choose from on held-out train images, as in 1,1.5,2."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Score samples: Frechet distance, precision and recall, memorisation; and the likelihood of held-out tokens."""
    from vistok.generator.config import SamplingConfig
    from vistok.tasks import evaluate_generator as task
    from vistok.tasks.evaluate_likelihood import caches_of, evaluate_likelihood
    from vistok.tasks.evaluators import choose_evaluator
    from vistok.tasks.show import generator_lines

    stage2 = task.load_stage2(run, _weights(weights), tokenizer, data)
    extractor = choose_evaluator(stage2.data, evaluator, inception, stage2.generator.info["class_names"])
    sampling = _checked(
        SamplingConfig, guidance_scale=guidance, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
    )
    where: dict[str, Any] = {"weights": weights, "tokenizer": tokenizer, "root": data}
    with _progress() as progress:
        if choose is not None:
            search = (run, extractor, progress, _scales(choose), min(count, 2000), sampling)
            sampling = sampling.replace(guidance_scale=task.choose_guidance(*search, **where)["guidance_scale"])
        scores = task.evaluate_generator(run, extractor, progress, sampling, count, split, **where)
        caches = caches_of(run, split, tokenizer)
        if caches is not None:
            scores["likelihood"] = evaluate_likelihood(run, *caches, progress)
    if caches is None:
        typer.echo(f"no likelihood: no token caches of train and {split} (vistok cache TOKENIZER makes them)", err=True)
    _show(scores, as_json, generator_lines)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="A run that has been evaluated.")],
    second: Annotated[Path, typer.Argument(help="Another of the same kind.")],
) -> None:
    """Set the scores of two runs side by side; refuses scores of different protocols."""
    from vistok.tasks.compare import compare_runs

    for line in compare_runs(first, second):
        _print(line)


@app.command()
def recipes(
    show: Annotated[str | None, typer.Option(help="Resolve one recipe: parameters, FLOPs, tokens, memory.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, for programs.")] = False,
) -> None:
    """List the recipes."""
    from vistok.tasks.show import recipe_json, recipe_lines, recipe_list

    if as_json:
        _print(json.dumps(recipe_json([show] if show else None), indent=2))
    else:
        for line in recipe_lines(show) if show else recipe_list():
            _print(line)


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

        with _progress() as progress:
            page, answer = run_demo(size, Path(data), runs, progress)
    _print(answer)
    _print(f"page: {page}")
    if open_page:
        typer.launch(str(page))


def _config(recipe: str, kind: str, settings: list[str], data: str | None) -> Any:
    from vistok.config import override
    from vistok.recipes import find_recipe

    if data is not None:
        settings = [f"data.root={json.dumps(data)}", *settings]
    return override(find_recipe(recipe, kind), settings)


def _train(prepare: Any, dry_run: bool) -> None:
    job: Job = prepare()
    summary = job.plan.summary(job.config)
    if dry_run:
        _print(json.dumps({"run": str(job.run_dir.path), **summary, **job.facts}, indent=2))
        return
    finished = job.run_dir.finished
    with _progress() as progress:
        job.train(progress)
    _print(f"{'was finished already' if finished else 'finished'}: {job.run_dir.path}")


def _extractor_of_tokenizer(run: Path, evaluator: str | None, inception: str | None, data: str | None) -> Any:
    """Return (extractor, None), or (None, why there is none)."""
    from vistok.tasks.cache_tokens import data_of
    from vistok.tasks.evaluators import choose_evaluator
    from vistok.tasks.load import load_tokenizer

    tokenizer = load_tokenizer(run)
    try:
        return choose_evaluator(data_of(tokenizer, data), evaluator, inception, tokenizer.info["class_names"]), None
    except UserError as error:
        if evaluator or inception:
            raise
        return None, str(error)


def _progress() -> Any:
    from vistok.engine.log import Progress

    return Progress(quiet=not _main_process()).live()


def _checked(cls: Any, **values: Any) -> Any:
    return cls.from_json(json.dumps(values))


def _weights(name: str) -> str:
    if name not in ("ema", "raw"):
        raise UserError(f"--weights {name!r}: allowed are ema, raw")
    return name


def _scales(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(f"--choose-guidance {text!r}: give numbers, as in 1,1.5,2") from None


def _show(scores: dict[str, Any], as_json: bool, lines: Any) -> None:
    if as_json:
        _print(json.dumps(scores, indent=2))
    else:
        for line in lines(scores):
            _print(line)


def _print(text: str) -> None:
    if _main_process():
        typer.echo(text)


def _main_process() -> bool:
    """Whether this is the first of torchrun's processes, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def main() -> NoReturn:
    """Run the command line; what goes wrong is printed as a sentence, with exit code 1 (130 where stopped)."""
    from vistok.errors import Stopped

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    rank = os.environ.get("RANK", "0")
    name = "vistok" if rank == "0" else f"vistok (process {rank})"
    try:
        app(standalone_mode=True)
    except UserError as error:
        typer.echo(f"{name}: {error}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of our output is gone
        sys.exit(1)
    except OSError as error:
        typer.echo(f"{name}: {error.filename or 'a file'}: {error.strerror or error}", err=True)
        sys.exit(1)
    except Stopped as stopped:
        command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])
        typer.echo(f"{name}: {stopped}. Repeat the command to go on: {command}", err=True)
        sys.exit(130)
    sys.exit(0)


def _stop(number: int, frame: object) -> None:
    from vistok.errors import Stopped

    raise Stopped("stopped")


if __name__ == "__main__":
    main()
