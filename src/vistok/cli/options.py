"""Options and helpers shared by several commands."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from vistok.cli.ending import ALARMED
from vistok.cli.quiet import progress_of
from vistok.errors import UserError, printable
from vistok.files import named_error, whole_path


def place(text: str) -> str:
    """Return a path, or text accepted in place of one, with a leading `~` expanded.

    Shells do not expand the `~` in `--runs=~/x`. Every option and argument that takes a path is parsed by this function or
    by `path`; the library itself takes paths as they are.
    """
    return os.path.expanduser(text)


def path(text: str) -> Path:
    """Return a path, with a leading `~` expanded."""
    return Path(place(text))


def run_of(kind: str | None = None) -> Callable[[str], Path]:
    """Return the parser of an argument that names a run of this kind: see `runs/find.py`."""

    return lambda text: found_run(place(text), kind)


def found_run(text: str, kind: str | None, runs: Path = Path("runs")) -> Path:
    """Return the run or file that a text means (see `runs/find.py`); say so if a network that comes with vistok has that name, too."""
    from vistok.runs.find import also_shipped, find_run

    found = find_run(text, kind, runs)
    if note := also_shipped(text, found, kind):
        say(note, err=True)
    return found


def evaluator(text: str) -> str:
    """Return the name or path of an evaluator: shipped ones and "imagenet" have names, others are runs of classifiers."""
    from vistok.runs.find import find_run

    return text if text in ("1", "2", "imagenet") else str(find_run(place(text), "classifier"))


def setting(text: str) -> str:
    """Return an assignment such as `data.root=~/photos`, with a leading `~` of its value expanded."""
    name, equals, value = text.partition("=")
    quote = '"' if value.startswith('"') else ""
    return f"{name}{equals}{quote}{place(value.removeprefix(quote))}"


A_TOKENIZER = (
    "A tokenizer: run, exported file or shipped name. A run is named by its path, a part of its name, or latest."
)
A_GENERATOR = (
    "A generator: run, exported file or shipped name. A run is named by its path, a part of its name, or latest."
)
Runs = Annotated[Path, typer.Option("--runs", parser=path, help="Folder for run directories.")]
Recipe = Annotated[str, typer.Argument(help="Name of a recipe; vistok recipes lists them.")]
Set = Annotated[
    list[str], typer.Option("--set", parser=setting, help="Change a config value, as in --set seed=1; may be repeated.")
]
Data = Annotated[
    str | None, typer.Option("--data", parser=place, help="Folder of images, or folder for downloaded data sets.")
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Say steps, parameters, FLOPs, memory and the time on this machine; write nothing."),
]
AsJson = Annotated[bool, typer.Option("--json", help="With --dry-run: print JSON.")]
Name = Annotated[
    str | None, typer.Option("--name", help="First part of the run directory's name; default: the recipe's name.")
]
Int8 = Annotated[bool, typer.Option("--int8", help="Round weights to 8 bits: faster, but with different samples.")]
Weights = Annotated[str, typer.Option(help="ema (averaged weights) or raw.")]
Evaluator = Annotated[
    str | None,
    typer.Option(
        parser=evaluator,
        metavar="RUN",
        help="Classifier (run or file) whose features are used for scoring; default: depends on the data set.",
    ),
]
Inception = Annotated[str | None, typer.Option(parser=place, help="File with torch-fidelity's Inception weights.")]
Guidance = Annotated[
    float | None,
    typer.Option(
        "--guidance",
        help="Classifier-free guidance scale; default: 1 (off), or what a shipped network or a shortcut needs.",
    ),
]
Temperature = Annotated[float, typer.Option(help="Softmax temperature; 0 always takes the most likely token.")]
TopK = Annotated[int | None, typer.Option(help="Sample only from the k most likely tokens.")]
TopP = Annotated[
    float | None, typer.Option(help="Sample only from the most likely tokens, up to this total probability.")
]
Steps = Annotated[
    int | None,
    typer.Option(
        help="Steps of a flow's solver (default: 20, what a shortcut made it for, or the best number of a shipped pair), or in "
        "which a masked generator fills in all tokens (8).",
    ),
]
Solver = Annotated[
    str | None,
    typer.Option(
        help="A flow generator's solver: euler, heun, ddim, multistep (the default), or with fresh noise renoise, double_step."
    ),
]
SamplingSet = Annotated[
    list[str],
    typer.Option("--set", parser=setting, help="Change another sampling value, as in --set warp=0.3; may be repeated."),
]
Seed = Annotated[int, typer.Option(help="Seed of the samples.")]
ImageSize = Annotated[
    int | None,
    typer.Option(
        min=1, help="Pixels per side of the images to encode, for more or fewer tokens; default: the tokenizer's size."
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        help="float32, or bfloat16: weights and cache in half the bytes, other samples; bfloat16-weights (autoregressive): weights alone.",
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size", min=1, help="Images drawn at once; default: as many as fit into free memory, at most 500."
    ),
]
Strict = Annotated[bool, typer.Option("--strict", help=f"Exit with code {ALARMED} if a run ends with alarms.")]
StrictSamples = Annotated[
    bool,
    typer.Option("--strict", help=f"Exit with code {ALARMED} if a run has alarms, or samples are all alike or copies."),
]
Anyway = Annotated[
    bool, typer.Option("--anyway", help="Go ahead even if alarms say that a run this builds on ended dead.")
]
TokenizerPath = Annotated[
    Path | None,
    typer.Option(
        "--tokenizer", parser=run_of("tokenizer"), metavar="RUN", help="Run of the tokenizer, if it was moved."
    ),
]


def recipe_config(
    recipe: str,
    kind: str,
    settings: list[str],
    data: str | None,
    init_from: str | None = None,
    name: str | None = None,
    proxy: str | None = None,
    codes: str | None = None,
) -> Any:
    """Return a recipe of this kind with changed values and name.

    With `init_from`, it has the network of that file; with `proxy`, its network predicts that one's tokens; `codes`: the
    tokenizer whose tokens a renderer draws.
    """
    from vistok.config import override
    from vistok.recipes import find_recipe

    if data is not None:
        settings = [f"data.root={json.dumps(whole_path(data))}", *settings]
    if name is not None:
        settings = [f"name={json.dumps(name)}", *settings]
    config = find_recipe(recipe, kind)
    if init_from is not None:
        from vistok.runs.initial import with_network_of

        config = with_network_of(config, init_from)
    if proxy is not None:
        from vistok.runs.proxy import with_proxy_of

        config = with_proxy_of(config, proxy)
    if codes is not None:
        from vistok.runs.sources import with_codes_of

        config = with_codes_of(config, codes)
    return override(config, settings)


def require_alive(model: str | Path, anyway: bool, tokenizer: str | Path | None = None) -> None:
    """Raise UserError if a model's run, or its tokenizer's, ended dead; print its other alarms."""
    from vistok.runs.health import gate as health

    health.require_alive(model, anyway, lambda line: say(line, err=True), tokenizer)


def progress_bars() -> Any:
    """Return live progress bars, which only the main process shows, and none with --quiet."""
    return progress_of(main_process()).live()


# Sampling options at values that change nothing.
NEUTRAL = {
    "temperature": 1.0,
    "top_k": None,
    "top_p": None,
    "int8": False,
    "precision": "float32",
    "steps": None,
    "solver": None,
}


def sampling_config(generator: Any, guidance: float | None, seed: int, settings: list[str], **options: Any) -> Any:
    """Return a generator's sampling config; raises UserError for bad values, and for options its family does not have.

    `settings` are further values of its family, as "field=value". Without a guidance, it is the generator's usual one.
    """
    from vistok.config import override
    from vistok.generator.families import FAMILIES
    from vistok.runs.drawing import usual_sampling

    kind = generator.config.kind
    chosen = {name: value for name, value in options.items() if value != NEUTRAL[name]}
    known = FAMILIES[kind].sampling.model_fields
    if wrong := [name for name in chosen if name not in known]:
        raise UserError(f"--{wrong[0].replace('_', '-')}: {kind} generators do not support it; leave it out")
    if twice := [name for name in chosen if any(text.partition("=")[0].strip() == name for text in settings)]:
        raise UserError(f"--{twice[0].replace('_', '-')} and --set {twice[0]}: the same value twice; leave one out")
    scale = {} if guidance is None else {"guidance_scale": guidance}
    with _named_as_options({"seed": seed, **scale, **chosen}):
        usual = usual_sampling(generator, {"seed": seed, **scale, **chosen})
    return override(usual, settings)


@contextmanager
def _named_as_options(values: dict[str, Any]) -> Iterator[None]:
    """Name options in errors as they were typed, not as the fields that they set."""
    try:
        yield
    except UserError as error:
        text = str(error)
        for name in values:
            option = "--guidance" if name == "guidance_scale" else f"--{name.replace('_', '-')}"
            text = re.sub(rf"\bconfig field '?{name}'?", option, text)
        raise UserError(text) from None


def checked_weights(name: str) -> str:
    """Return the name if it is ema or raw; raises UserError otherwise."""
    if name not in ("ema", "raw"):
        raise UserError(f"--weights {name!r}: give ema or raw")
    return name


def show_scores(scores: dict[str, Any], as_json: bool, lines: Any) -> None:
    """Print scores as lines or as JSON."""
    if as_json:
        say(json.dumps(scores, indent=2))
    else:
        for line in lines(scores):
            say(line)


def terminal_width() -> int | None:
    """Return the characters of a line on the terminal, or None where the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def say(text: str, err: bool = False) -> None:
    """Print from the main process only; control characters in names of files and classes are escaped."""
    if not main_process():
        return
    try:
        typer.echo(printable(text), err=err)
    except OSError as error:
        raise named_error(Path("standard output"), error) from None


def main_process() -> bool:
    """Whether this is the first of torchrun's processes, or the only process."""
    return os.environ.get("RANK", "0") == "0"
