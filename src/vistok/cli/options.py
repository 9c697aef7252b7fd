"""Options and helpers that several verbs share."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from vistok.errors import UserError, printable
from vistok.files import named_error


def place(text: str) -> str:
    """Return a path, or what else may stand in its stead, with the `~` at its beginning expanded.

    Shells leave it in `--runs=~/x`. Every option and argument that takes a path is read by this or by `path`; the
    library takes paths as they are.
    """
    return os.path.expanduser(text)


def path(text: str) -> Path:
    """Return a path, with the `~` at its beginning expanded."""
    return Path(place(text))


def setting(text: str) -> str:
    """Return an assignment, `data.root=~/photos`, with the `~` at the beginning of its value expanded."""
    name, equals, value = text.partition("=")
    quote = '"' if value.startswith('"') else ""
    return f"{name}{equals}{quote}{place(value.removeprefix(quote))}"


Runs = Annotated[Path, typer.Option("--runs", parser=path, help="Folder of run directories.")]
Recipe = Annotated[str, typer.Argument(help="A recipe; vistok recipes lists them.")]
Set = Annotated[
    list[str], typer.Option("--set", parser=setting, help="Change a config value, as in --set seed=1; may be repeated.")
]
Data = Annotated[
    str | None, typer.Option("--data", parser=place, help="Folder of images (or where downloads are kept).")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print steps, parameters, FLOPs and memory, and stop.")]
Int8 = Annotated[bool, typer.Option("--int8", help="Round weights to 8 bits: faster, other samples.")]
Weights = Annotated[str, typer.Option(help="ema (averaged) or raw.")]
Evaluator = Annotated[
    str | None, typer.Option(parser=place, help="Classifier run or file whose features score; default by data set.")
]
Inception = Annotated[str | None, typer.Option(parser=place, help="File of torch-fidelity's Inception weights.")]
Guidance = Annotated[float, typer.Option("--guidance", help="Classifier-free guidance scale; 1 is off.")]
Temperature = Annotated[float, typer.Option(help="Softmax temperature; 0 takes the most likely token.")]
TopK = Annotated[int | None, typer.Option(help="Keep the k most likely tokens.")]
TopP = Annotated[float | None, typer.Option(help="Keep the most likely tokens up to this probability.")]
Seed = Annotated[int, typer.Option(help="Seed of the samples.")]
ImageSize = Annotated[
    int | None,
    typer.Option(
        min=1, help="Side of the images to encode, where it is not the tokenizer's own: more or fewer tokens."
    ),
]
Precision = Annotated[
    str, typer.Option("--precision", help="float32, or bfloat16: weights and cache in half the bytes, other samples.")
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size", min=1, help="Images drawn at once; default: as many as free memory holds, 500 at most."
    ),
]
Anyway = Annotated[
    bool, typer.Option("--anyway", help="Go on although a run that this builds on ended dead, as its alarms say.")
]
TokenizerPath = Annotated[str | None, typer.Option("--tokenizer", parser=place, help="Tokenizer run, where it moved.")]


def recipe_config(recipe: str, kind: str, settings: list[str], data: str | None, init_from: str | None = None) -> Any:
    """Return a recipe of this kind with changed values; with `init_from` a tokenizer's, on the network of that file."""
    from vistok.config import override
    from vistok.recipes import find_recipe

    if data is not None:
        settings = [f"data.root={json.dumps(data)}", *settings]
    config = find_recipe(recipe, kind)
    if init_from is not None:
        from vistok.runs.initial import with_network_of

        config = with_network_of(config, init_from)
    return override(config, settings)


def require_alive(model: str | Path, anyway: bool, tokenizer: str | Path | None = None) -> None:
    """Raise UserError where a model is of a run that ended dead; tell its other alarms. A generator's tokenizer counts."""
    from vistok.runs.health import gate as health

    health.require_alive(model, anyway, lambda line: say(line, err=True), tokenizer)


def progress_bars() -> Any:
    """Return live progress bars, of the main process alone."""
    from vistok.engine.log import Progress

    return Progress(quiet=not main_process()).live()


# Options of sampling where they say nothing.
NEUTRAL = {"temperature": 1.0, "top_k": None, "top_p": None, "int8": False, "precision": "float32"}


def sampling_config(generator: Any, guidance: float, seed: int, **options: Any) -> Any:
    """Return how to sample a generator; raises UserError for bad values, and for options that its family does not have."""
    from vistok.generator.families import FAMILIES, read_sampling

    kind = generator.config.kind
    said = {name: value for name, value in options.items() if value != NEUTRAL[name]}
    known = FAMILIES[kind].sampling.model_fields
    if wrong := [name for name in said if name not in known]:
        raise UserError(f"--{wrong[0].replace('_', '-')}: {kind} generators are sampled without it; leave it out")
    return read_sampling({"kind": kind, "guidance_scale": guidance, "seed": seed, **said})


def checked_weights(name: str) -> str:
    """Return ema or raw, or raise UserError."""
    if name not in ("ema", "raw"):
        raise UserError(f"--weights {name!r}: allowed are ema, raw")
    return name


def show_scores(scores: dict[str, Any], as_json: bool, lines: Any) -> None:
    """Print scores as lines or as JSON."""
    if as_json:
        say(json.dumps(scores, indent=2))
    else:
        for line in lines(scores):
            say(line)


def say(text: str, err: bool = False) -> None:
    """Print, in the main process; names of files and classes are shown and never obeyed by the terminal."""
    if not main_process():
        return
    try:
        typer.echo(printable(text), err=err)
    except OSError as error:
        raise named_error(Path("standard output"), error) from None


def main_process() -> bool:
    """Whether this is the first of torchrun's processes, or the only one."""
    return os.environ.get("RANK", "0") == "0"
