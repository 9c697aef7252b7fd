"""Scores of any network: of the images that it draws, or of what it makes of images."""

import torch
from torch import nn

from vistok.config import science
from vistok.errors import UserError
from vistok.generator.interface import Generator
from vistok.metrics.protocol import Treatment
from vistok.python.asked import Asked
from vistok.python.reference import Reference
from vistok.python.score_images import Source, in_words, labels_of, score_stream
from vistok.python.scores import Scores
from vistok.runs.drawing import fitting_batch, sample_batches
from vistok.runs.frozen_networks import digests_in_losses
from vistok.runs.load import load_tokenizer_of
from vistok.scoring.evaluations import scores_in
from vistok.scoring.evaluators import require_images, require_unseen
from vistok.scoring.few_images import few_images_warnings
from vistok.scoring.foreign_module import ForeignAutoencoder, at_rest, drawn_images
from vistok.scoring.reconstructions import PlainScores, distances, distortion, reconstruct
from vistok.tokenizer.interface import Tokenizer

SAMPLES, RECONSTRUCTIONS = "samples", "reconstructions"
BATCH = 100  # images that a network draws at once, where the user does not say


def score_module(module: nn.Module, reference: Reference, asked: Asked) -> Scores:
    """Score a network's samples or reconstructions, whichever it has. Raises UserError where it has neither, or both."""
    can = {
        SAMPLES: callable(getattr(module, "sample", None)),
        RECONSTRUCTIONS: all(callable(getattr(module, name, None)) for name in ("encode", "decode")),
    }
    name = type(module).__name__
    if not any(can.values()):
        raise UserError(
            f"{name} has neither sample(labels) nor encode(images) and decode(latents), so there is nothing to score; give it "
            "these methods, or give its images"
        )
    if asked.of is not None and not can[asked.of]:
        raise UserError(
            f"{name} cannot make {asked.of}: it lacks {'sample' if asked.of == SAMPLES else 'encode or decode'}"
        )
    if asked.of is None and all(can.values()):
        raise UserError(
            f'{name} can sample and encode; say which is to be scored: of="{SAMPLES}" or of="{RECONSTRUCTIONS}"'
        )
    drawing = asked.of == SAMPLES or not can[RECONSTRUCTIONS]
    with at_rest(module):
        return _sampler(module, reference, asked) if drawing else score_autoencoder(module, reference, asked, name)


def _sampler(module: nn.Module, reference: Reference, asked: Asked) -> Scores:
    name = type(module).__name__
    if isinstance(module, Generator):
        return score_network(module, reference, asked, name)
    num_classes = len(reference.class_names) or getattr(module, "num_classes", None)
    labels = labels_of(asked.labels, asked.drawn(reference), num_classes, name)
    how = in_words(labels, num_classes or int(labels.max()) + 1)
    source = Source("g", how, Treatment(weights="none"), name, floats=True)
    extractor = asked.extractor(reference)  # whatever can fail, fails before the drawing
    images = drawn_images(module, labels, asked.batch_size or BATCH, asked.seed, asked.progress)
    return score_stream(images, source, reference, extractor)


def score_network(generator: Generator, reference: Reference, asked: Asked, name: str) -> Scores:
    """Score the samples of one of vistok's generators, decoded by its tokenizer."""
    from vistok.python.drawing import sampling_of

    tokenizer, extractor = load_tokenizer_of(generator), asked.extractor(reference)
    require_unseen(extractor, digests_in_losses(tokenizer.info) | digests_in_losses(generator.info))
    sampling = sampling_of(generator, {"guidance_scale": asked.guidance, "seed": asked.seed})
    generator.check_guidance(sampling.guidance_scale)
    labels = labels_of(asked.labels, asked.drawn(reference), generator.num_classes, name)
    treatment = Treatment(weights=generator.info.weights, sampling=science(sampling))
    source = Source("g", in_words(labels, generator.num_classes), treatment, name)
    batches = sample_batches(
        generator.sampler(sampling), tokenizer, labels, asked.progress, f"samples of {name}",
        fitting_batch(generator, sampling, asked.batch_size),
    )  # fmt: skip
    return score_stream(batches, source, reference, extractor)


@torch.no_grad()
def score_autoencoder(module: nn.Module, reference: Reference, asked: Asked, name: str) -> Scores:
    """Score what a network makes of the reference's images: PSNR, SSIM and, with an evaluator, distances."""
    extractor, warnings = asked.extractor_if_any(
        reference, digests_in_losses(module.info) if isinstance(module, Tokenizer) else set()
    )
    require_images(reference.count, f"reference {reference.name}", 2 if extractor else 1)
    treatment, autoencoder = Treatment(weights="none"), ForeignAutoencoder(module)
    if isinstance(module, Tokenizer):
        treatment = Treatment(weights=module.info.weights)
    extractors = [extractor] if extractor else []
    made = reconstruct(
        autoencoder, reference.pairs(), reference.count, extractors, asked.progress, f"reconstructions of {name}"
    )
    scores = distortion(made, PlainScores(reference.name, made.digest, reference.count, treatment))
    scores |= distances(extractors, made.features, [reference.features(one) for one in extractors], treatment, "")
    warnings += few_images_warnings(scores, extractor.num_features) if extractor else []
    if autoencoder.darkest >= 0:
        warnings.append(
            f"no pixel that {name}.decode returns is below 0: vistok gives and takes floats in [-1, 1]; wrap a network for [0, 1]"
        )
    return Scores(name, list(scores_in(scores)), warnings, scores)
