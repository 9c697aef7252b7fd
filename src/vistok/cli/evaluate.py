"""vistok evaluate: score a tokenizer, a generator, or images of any generator."""

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from vistok.cli import options
from vistok.cli.commands import App
from vistok.cli.ending import ALARMED
from vistok.cli.options import (
    Data,
    Weights,
    checked_weights,
    path,
    progress_bars,
    run_of,
    sampling_config,
    say,
    show_scores,
)
from vistok.errors import UserError

evaluate_app = App(help="Score a trained tokenizer or generator, or images.")
Choose = Annotated[
    str | None,
    typer.Option(
        "--choose-guidance",
        help="Choose the best of these scales on held-out training images, as in 1,1.5,2; by the kernel distance if held-out images or samples are fewer than the features.",
    ),
]
Reference = Annotated[
    Path | None,
    typer.Option(parser=path, help="Images to compare with instead of the split's: ADM's .npz, or a folder."),
]


@evaluate_app.command("tokenizer")
def evaluate_tokenizer(
    run: Annotated[Path, typer.Argument(parser=run_of("tokenizer"), metavar="RUN", help=options.A_TOKENIZER)],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
    weights: Weights = "ema",
    evaluator: options.Evaluator = None,
    inception: options.Inception = None,
    data: Data = None,
    image_size: options.ImageSize = None,
    anyway: options.Anyway = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Score a tokenizer's reconstructions (PSNR, SSIM, Frechet distance) and its tokens: usage, entropies, stability."""
    from vistok.scoring.evaluate_tokenizer import evaluate_tokenizer as evaluate
    from vistok.scoring.stability import evaluate_stability
    from vistok.verbs.show import tokenizer_lines

    options.require_alive(run, anyway)
    extractor, why = _extractor_of_tokenizer(run, evaluator, inception, data, split)
    with progress_bars() as progress:
        scores = evaluate(run, extractor, progress, split, checked_weights(weights), data, image_size=image_size)
        if "codebook" in scores:  # vectors have no tokens that noise could change
            stable = evaluate_stability(run, progress, split, weights, data, image_size)
            scores["stability"] = stable["scores"]
    if data is None:
        from vistok.runs.load import load_tokenizer
        from vistok.runs.run_images import data_of

        _warn_of_changes(data_of(network := load_tokenizer(run, weights)), network.info)
    if why:
        say(f"no Frechet distance: {why}", err=True)
    else:
        _warn_of_few(scores, extractor)
    _warn_of_unkept(scores)
    show_scores(scores, as_json, tokenizer_lines)


@evaluate_app.command("generator")
def evaluate_generator(
    run: Annotated[Path, typer.Argument(parser=run_of("generator"), metavar="RUN", help=options.A_GENERATOR)],
    count: Annotated[
        int | None,
        typer.Option(min=2, help="Number of samples; default: as many as there are reference images, 1,000 to 10,000."),
    ] = None,
    split: Annotated[str, typer.Option(help="Reference images: train, val or test.")] = "test",
    guidance: options.Guidance = None,
    temperature: options.Temperature = 1.0,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    steps: options.Steps = None,
    solver: options.Solver = None,
    settings: options.SamplingSet = [],
    seed: options.Seed = 0,
    int8: options.Int8 = False,
    precision: options.Precision = "float32",
    weights: Weights = "ema",
    tokenizer: options.TokenizerPath = None,
    evaluator: options.Evaluator = None,
    inception: options.Inception = None,
    data: Data = None,
    choose: Choose = None,
    search_count: Annotated[int, typer.Option(min=2, help="Number of samples for each of these scales.")] = 2_000,
    reference: Reference = None,
    batch_size: options.BatchSize = None,
    anyway: options.Anyway = False,
    strict: options.StrictSamples = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Score a generator's samples (Frechet distance, precision and recall, memorisation) and held-out likelihood."""
    from vistok.data.images.open import open_split
    from vistok.runs.health.gate import alarms_of
    from vistok.runs.health.sample_warnings import score_warnings
    from vistok.scoring.evaluate_generator import Against, Drawing, load_stage2, usual_count
    from vistok.scoring.evaluators import choose_evaluator
    from vistok.scoring.image_batch import open_batch
    from vistok.verbs.show import generator_lines

    scales = _scales(choose, guidance)
    stage2 = load_stage2(run, checked_weights(weights), tokenizer, data)
    options.require_alive(run, anyway, tokenizer)
    extractor = choose_evaluator(stage2.data, evaluator, inception, stage2.generator.info.class_names)
    sampling = sampling_config(
        stage2.generator, guidance, seed, settings, temperature=temperature, top_k=top_k, top_p=top_p, int8=int8,
        precision=precision, steps=steps, solver=solver,
    )  # fmt: skip
    against = Against((extractor,), split, open_batch(reference) if reference else None)
    count = count or usual_count(against.reference.count if against.reference else len(open_split(stage2.data, split)))
    scores = _score_samples(stage2, against, Drawing(sampling, count, batch_size), scales, search_count, tokenizer)
    if data is None:
        _warn_of_changes(stage2.data, stage2.tokenizer.info)
    _warn(wrong := score_warnings(scores, stage2.generator.info, stage2.tokenizer.info))
    _warn_of_few(scores, extractor)
    _warn_of_unkept(scores)
    show_scores(scores, as_json, generator_lines)
    _end(strict and bool(wrong or alarms_of(run)))


def _end(alarmed: bool) -> None:
    if alarmed:
        raise typer.Exit(ALARMED)


def _score_samples(
    stage2: Any, against: Any, drawing: Any, scales: tuple[float, ...], search_count: int, tokenizer: Path | None
) -> dict[str, Any]:
    """Choose the guidance among scales where there are some, and score samples, and held-out latents where it can be done."""
    from dataclasses import replace

    from vistok.generator.interface import HasNats
    from vistok.scoring.evaluate_generator import check_scoring, evaluate_generator
    from vistok.scoring.evaluate_likelihood import caches_of, evaluate_likelihood
    from vistok.scoring.guidance import choose_guidance
    from vistok.scoring.probe import can_probe, evaluate_probe

    # Whatever can be found out before the sampling, is.
    check_scoring(stage2, against, drawing.count)
    likely = isinstance(stage2.generator, HasNats)
    caches = caches_of(stage2.generator, against.split, tokenizer) if likely else None
    with progress_bars() as progress:
        if scales:
            search = replace(drawing, count=min(drawing.count, search_count))
            found = choose_guidance(stage2, against.extractors[0], scales, search, progress)
            drawing.sampling = drawing.sampling.replace(guidance_scale=found["guidance_scale"])
        scores = evaluate_generator(stage2, against, drawing, progress)
        if caches is not None:
            averaged = stage2.generator if stage2.weights == "ema" else None
            scores["likelihood"] = evaluate_likelihood(stage2.run, *caches, progress, averaged)
        held_out = caches_of(stage2.generator, "val", tokenizer)
        if held_out is not None and stage2.weights == "ema" and can_probe(stage2.generator, held_out[1]):
            scores["probe"] = evaluate_probe(stage2.run, held_out[1], progress, stage2.generator)
    if not likely:
        say(f"no likelihood: {stage2.generator.config.kind} generators have none", err=True)
    elif caches is None:
        splits = " and ".join(dict.fromkeys(("train", against.split)))
        say(f"no likelihood: no latent cache of {splits} (vistok cache TOKENIZER makes them)", err=True)
    return scores


@evaluate_app.command("samples")
def evaluate_samples(
    samples: Annotated[
        Path, typer.Argument(parser=path, help="Images from any generator: .npz in ADM's layout, or a folder.")
    ],
    reference: Annotated[Path, typer.Option(parser=path, help="Real images: ADM's reference .npz, or a folder.")],
    inception: options.Inception = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Score any images with Inception: FID, sFID, Inception score, precision and recall."""
    from vistok.engine.device import best_device
    from vistok.metrics.features import InceptionFeatures, require_inception
    from vistok.scoring.evaluate_samples import evaluate_samples as evaluate
    from vistok.scoring.image_batch import open_batch
    from vistok.verbs.show import samples_lines

    images, real = open_batch(samples), open_batch(reference)
    extractor = InceptionFeatures(require_inception(inception), best_device())
    with progress_bars() as progress:
        scores = evaluate(images, real, extractor, progress)
    _warn_of_few(scores, extractor)
    show_scores(scores, as_json, samples_lines)


def _warn(lines: list[str]) -> None:
    for line in lines:
        say(f"warning: {line}", err=True)


def _warn_of_unkept(scores: dict[str, Any]) -> None:
    """Warn of scores that could not be written into their run."""
    from vistok.scoring.evaluations import unkept_warnings

    _warn(unkept_warnings(scores))


def _warn_of_changes(data: Any, origin: Any) -> None:
    """Warn of pictures that are no longer those of the training."""
    from vistok.scoring.changed_images import changed_images_warnings

    _warn(changed_images_warnings(data, origin))


def _warn_of_few(scores: dict[str, Any], extractor: Any) -> None:
    """Warn of distances that rest on few images."""
    from vistok.scoring.few_images import few_images_warnings

    _warn(few_images_warnings(scores, extractor.num_features))


def _extractor_of_tokenizer(
    run: Path, evaluator: str | None, inception: str | None, data: str | None, split: str
) -> Any:
    """Return (extractor, None), or (None, the reason why there is none): no network, or too few images for a distance."""
    from vistok.data.images.open import open_split
    from vistok.runs.frozen_networks import digests_in_losses
    from vistok.runs.load import load_tokenizer
    from vistok.runs.run_images import data_of
    from vistok.scoring.evaluators import choose_evaluator, require_images, require_unseen

    tokenizer = load_tokenizer(run)
    images = data_of(tokenizer, data)
    try:
        extractor = choose_evaluator(images, evaluator, inception, tokenizer.info.class_names)
        require_unseen(extractor, digests_in_losses(tokenizer.info))
        require_images(len(open_split(images, split)), f"split {split!r} of {images.dataset}")
        return extractor, None
    except UserError as error:
        if evaluator or inception:
            raise
        return None, str(error)


def _scales(text: str | None, guidance: float | None = None) -> tuple[float, ...]:
    """Return the scales to choose among; none where no choice is asked for."""
    if text is None:
        return ()
    if guidance is not None:
        raise UserError(
            f"--guidance {guidance:g} and --choose-guidance {text}: one of them says which scale to use; leave one out"
        )
    try:
        scales = tuple(float(part) for part in text.split(","))
    except ValueError:
        scales = ()
    if not scales or not all(math.isfinite(scale) and scale >= 0 for scale in scales):
        raise UserError(f"--choose-guidance {text!r}: give scales of 0 or more, as in 1,1.5,2")
    return scales
