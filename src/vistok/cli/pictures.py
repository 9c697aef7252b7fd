"""vistok sample, vistok reconstruct: images from a generator, or through a tokenizer."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vistok.cli import options
from vistok.cli.options import checked_weights, path, progress_bars, run_of, sampling_config, say
from vistok.errors import UserError, counted

Generator = Annotated[
    Path | None,
    typer.Argument(parser=run_of("generator"), metavar="[RUN]", help="A generator: run, file or shipped pair."),
]
SamplesOut = Annotated[
    Path | None,
    typer.Option(parser=path, help="File or folder to write; default: samples.png, samples/ or samples.npz."),
]
SamplesFormat = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="grid (one picture of all), png, jpg or webp (a folder with a picture of each) or npz (ADM's layout); "
        "default: grid, or npz if --out ends so.",
    ),
]
Classes = Annotated[
    list[str],
    typer.Option("--class", help="Names or numbers of classes, comma-separated or repeated; default: all in turn."),
]
Shipped = Annotated[
    str | None,
    typer.Option(
        "--from",
        help="A pair of networks shipped with vistok: fashion-crt, fashion-baseline, fashion-flow or pictures64.",
    ),
]
Draft = Annotated[
    Path | None,
    typer.Option(
        parser=run_of("generator"),
        help="A smaller generator of the same tokens that guesses ahead; the samples stay the same.",
    ),
]


def sample(
    generator: Generator = None,
    shipped: Shipped = None,
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 40,
    out: SamplesOut = None,
    kind: SamplesFormat = None,
    classes: Classes = [],
    guidance: options.Guidance = None,
    temperature: options.Temperature = 1.0,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    steps: options.Steps = None,
    solver: options.Solver = None,
    settings: options.SamplingSet = [],
    seed: options.Seed = 0,
    weights: options.Weights = "ema",
    tokenizer: options.TokenizerPath = None,
    int8: options.Int8 = False,
    precision: options.Precision = "float32",
    draft: Draft = None,
    lookahead: Annotated[
        int | None, typer.Option(min=1, help="Number of tokens that the draft guesses ahead; default: 4.")
    ] = None,
    batch_size: options.BatchSize = None,
    anyway: options.Anyway = False,
) -> None:
    """Draw images from a generator."""
    from vistok.engine.distributed import join_world
    from vistok.runs.drawing import Clock, cost_of, fitting_batch, make_sampler
    from vistok.runs.load import load_generator, load_tokenizer_of
    from vistok.verbs.class_choice import chosen_labels
    from vistok.verbs.sample_files import samples_place
    from vistok.verbs.sample_sheet import layout_of

    place, kind = samples_place(out, kind)
    model = _generator(generator, shipped, weights, tokenizer, anyway)
    sampling = sampling_config(
        model, guidance, seed, settings, temperature=temperature, top_k=top_k, top_p=top_p, int8=int8,
        precision=precision, steps=steps, solver=solver,
    )  # fmt: skip
    draft_model = load_generator(draft, checked_weights(weights)) if draft else None
    if lookahead is not None and draft is None:
        raise UserError(
            f"--lookahead {lookahead} is for a generator that guesses ahead; add --draft RUN, or leave it out"
        )
    sampler = make_sampler(model, sampling, draft_model, lookahead or 4)
    names = model.info.class_names
    labels = chosen_labels(classes, names, count)
    decoder, clock = load_tokenizer_of(model, tokenizer), Clock()
    at_once = fitting_batch(model, sampling, batch_size, join_world())
    for line in _write(
        sampler, decoder, labels, (place, kind, layout_of(labels, names)), sampling, bool(classes), at_once, clock
    ):
        say(f"warning: {line}", err=True)
    say(f"{counted(count, 'image')} in {place}")
    say(str(cost_of(model, decoder, sampling, clock, getattr(sampler, "spent", None))))
    if acceptance := getattr(sampler, "acceptance", None):
        say(f"{acceptance.rate:.1%} of the draft's guesses right, {acceptance.tokens_per_pass:.2f} tokens per pass")


def _generator(run: Path | None, shipped: str | None, weights: str, tokenizer: Path | None, anyway: bool) -> Any:
    """Return the generator of a run or of a shipped pair, whichever is given."""
    from vistok.runs.load import load_generator
    from vistok.runs.shipped import shipped_network, shipped_networks

    if run is not None and shipped is not None:
        raise UserError(f"a run ({run}) and --from {shipped}: give one of them")
    if run is None and shipped is None:
        raise UserError("give a generator's run or a pair that comes with vistok, as in: vistok sample fashion-crt")
    if shipped is not None:
        run = shipped_network(shipped, "generator")
        if run is None:
            raise UserError(f"no shipped pair {shipped!r}; available: {', '.join(shipped_networks('generator'))}")
    assert run is not None
    options.require_alive(run, anyway, tokenizer)
    return load_generator(run, checked_weights(weights))


def _write(
    sampler: Any, decoder: Any, labels: Any, to: tuple[Path, str, Any], sampling: Any, chosen: bool, at_once: int,
    clock: Any,
) -> list[str]:  # fmt: skip
    """Draw samples and write them to files; return warnings about them. `chosen`: the user chose the classes."""
    from vistok.engine.distributed import join_world
    from vistok.metrics.variety import Drawn, variety
    from vistok.runs.drawing import first_of_share, sample_batches
    from vistok.runs.health.sample_warnings import collapse_warnings
    from vistok.verbs.sample_files import earlier_pictures, write_samples

    (place, kind, layout), world, drawn = to, join_world(), Drawn()
    with progress_bars() as progress:
        if replaced := earlier_pictures(place):
            progress.say(f"warning: {counted(len(replaced), 'picture')} in {place} will be replaced")
        batches = sample_batches(
            sampler, decoder, labels, progress, batch_size=at_once, world=world, drawn=drawn, clock=clock
        )
        write_samples(batches, labels, place, kind, layout, world, first_of_share(len(labels), at_once, world))
    return collapse_warnings(variety(world.collect(drawn)), sampling, decoder.info, chosen)


def reconstruct(
    images: Annotated[list[Path], typer.Argument(parser=path, help="Image files, or folders of them.")],
    tokenizer: Annotated[
        Path, typer.Option("--tokenizer", parser=run_of("tokenizer"), metavar="RUN", help=options.A_TOKENIZER)
    ],
    out: Annotated[Path, typer.Option(parser=path, help="Image file to write.")] = Path("reconstruction.png"),
    weights: options.Weights = "ema",
    tokens: Annotated[
        str,
        typer.Option(
            metavar="COUNTS",
            help="Decode only so many of the first latents of a line, if the tokenizer was trained with prefixes. A row each "
            "for several: 1,4,16.",
        ),
    ] = "",
) -> None:
    """Encode and decode images; write one picture with the originals above their reconstructions."""
    from vistok.verbs.reconstruct import chosen_images, quality_lines, reconstruct_files

    options.require_alive(tokenizer, anyway=True)  # the picture will show it
    files, notes = chosen_images(images)
    counts = _counts(tokens) if tokens else (None,)
    done = reconstruct_files(files, tokenizer, out, checked_weights(weights), counts)
    for note in [*notes, *done.notes]:
        say(note)
    for count, of_count in zip(counts, done.quality, strict=True):
        for line in quality_lines(files, of_count):
            say(line if count is None else f"first {count}: {line}")
    say(f"originals above, reconstructions below, in {done.place}")


def _counts(text: str) -> tuple[int, ...]:
    """Return the numbers in text like "1,4,16". Raises UserError for anything else."""
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) for part in parts):
        raise UserError(f"--tokens {text!r}: give how many of the first tokens to decode, 1 or more, as in 4 or 1,4,16")
    return tuple(map(int, parts))
