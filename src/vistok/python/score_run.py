"""Scores of runs: what vistok evaluate measures and keeps with the run, or the same against other images."""

from pathlib import Path
from typing import Any

from vistok.generator.interface import HasNats
from vistok.python.asked import Asked
from vistok.python.drawing import sampling_of
from vistok.python.reference import Reference, reference_of
from vistok.python.score_module import score_autoencoder, score_network
from vistok.python.scores import Scores
from vistok.python.told import tell_alarms
from vistok.runs.frozen_networks import digests_in_losses
from vistok.runs.health.sample_warnings import score_warnings
from vistok.runs.load import load_generator, load_tokenizer
from vistok.runs.run_images import data_of
from vistok.scoring.changed_images import changed_images_warnings
from vistok.scoring.evaluate_generator import Against, Drawing, check_scoring, evaluate_generator, load_stage2
from vistok.scoring.evaluate_likelihood import caches_of, evaluate_likelihood
from vistok.scoring.evaluate_tokenizer import evaluate_tokenizer
from vistok.scoring.evaluations import scores_in, unkept_warnings
from vistok.scoring.few_images import few_images_warnings


def score_tokenizer(path: Path, against: Reference | None, asked: Asked) -> Scores:
    """Score a tokenizer's reconstructions, of its own images if there is no other reference."""
    tell_alarms(path, asked.progress.say)
    own = reference_of(path, asked.split)
    if against is not None and not own.same_as(against):
        return score_autoencoder(load_tokenizer(path), against, asked, name_of(path))
    extractor, warnings = asked.extractor_if_any(own, digests_in_losses(load_tokenizer(path).info))
    found = evaluate_tokenizer(path, extractor, asked.progress, asked.split)
    warnings += few_images_warnings(found, extractor.num_features) if extractor else []
    network = load_tokenizer(path)
    warnings += changed_images_warnings(data_of(network), network.info)
    return Scores(name_of(path), list(scores_in(found)), warnings + unkept_warnings(found), found)


def score_generator(path: Path, against: Reference | None, asked: Asked) -> Scores:
    """Score a generator's samples, against its tokenizer's held-out images if there is no other reference.

    Held-out latents are scored too, where the family has a likelihood and their caches are there.
    """
    tell_alarms(path, asked.progress.say)
    own = reference_of(path, asked.split)
    against = own if against is None else against
    of_other_data = against.data is not None and not own.same_as(against)
    if path.is_file() or of_other_data or asked.labels is not None:
        return score_network(load_generator(path), against, asked, name_of(path))
    stage2, extractor = load_stage2(path), asked.extractor(against)
    sampling = sampling_of(stage2.generator, {"guidance_scale": asked.guidance, "seed": asked.seed})
    compared = Against((extractor,), asked.split, against.batch)
    check_scoring(stage2, compared, asked.drawn(against))
    drawing = Drawing(sampling, asked.drawn(against), asked.batch_size)
    found: dict[str, Any] = evaluate_generator(stage2, compared, drawing, asked.progress)
    warnings = score_warnings(found, stage2.generator.info, stage2.tokenizer.info)
    warnings += few_images_warnings(found, extractor.num_features)
    warnings += changed_images_warnings(stage2.data, stage2.tokenizer.info)
    caches = caches_of(stage2.generator, asked.split) if isinstance(stage2.generator, HasNats) else None
    if caches is not None:
        found["likelihood"] = evaluate_likelihood(path, *caches, asked.progress, stage2.generator)
    return Scores(name_of(path), list(scores_in(found)), warnings + unkept_warnings(found), found)


def name_of(path: Path) -> str:
    """Return the name of a run directory, or of a weights file without its suffix."""
    return path.name.removesuffix(".safetensors")
