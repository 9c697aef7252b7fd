"""What can be wrong with samples: they are all alike, or they copy training images."""

import json
from typing import Any

from vistok.errors import UserError, counted
from vistok.generator.config import SamplingConfig
from vistok.generator.families import read_sampling
from vistok.metrics.protocol import Treatment
from vistok.metrics.variety import Variety
from vistok.origin import Origin
from vistok.runs.config import GeneratorRun
from vistok.runs.health.advice import Judged
from vistok.runs.health.alarms import FEW_UNSEEN
from vistok.runs.health.generator_symptoms import against_memory

SAME, DIFFERENT = 0.2, 0.8  # shares of the samples: those that show the commonest picture, and distinct pictures
VARIANCE = 0.1  # variance of samples, as a share of that of reconstructions of held-out images
MUCH = 3.0  # guidance scale beyond which less is advised
ENOUGH = 10  # samples needed for a meaningful variance
COPIES = 0.1  # share of samples nearer to a training image than 99 % of unseen images are; unseen images give 0.01


def collapse_warnings(found: Variety, sampling: SamplingConfig, tokenizer: Origin, chosen: bool = False) -> list[str]:
    """Return warnings about collapsed samples; `tokenizer`: its origin; `chosen`: they show only some of the classes.

    Without noise all samples of a class are one picture by design, so nothing is reported.
    """
    if sampling.always_alike or found.count < 2:
        return []
    if found.commonest > 1 and found.commonest >= SAME * found.count:
        return [f"{found.commonest} of {found.count} samples are the same picture. {_more_varied(sampling)}"]
    if found.distinct_pictures < DIFFERENT * found.count:
        only = counted(found.distinct_pictures, "different picture")
        return [f"{found.count} samples show only {only}. {_more_varied(sampling)}"]
    expected = _variance_of_reconstructions(tokenizer)
    if expected is None or chosen or found.count < ENOUGH or found.variance >= VARIANCE * expected:
        return []
    return [
        f"samples are nearly the same picture: their variance is {found.variance / expected:.3f} times that of "
        f"reconstructions of held-out images. {_more_varied(sampling)}"
    ]


def _more_varied(sampling: SamplingConfig) -> str:
    """Return what makes samples vary more: sampling that narrows the choice less, or else a better network."""
    narrow = [
        option
        for option, narrows in (
            ("--temperature", getattr(sampling, "temperature", 1.0) < 1),
            ("--top-k", getattr(sampling, "top_k", None) is not None),
            ("--top-p", getattr(sampling, "top_p", None) is not None),
        )
        if narrows
    ]
    if narrow:
        return f"Draw them without {' and '.join(narrow)}"
    if sampling.guidance_scale > MUCH:
        return f"Draw them with less guidance: {sampling.guidance_scale:g} is much; --guidance 1.5"
    return "Train the generator for more steps, or on more images"


def _variance_of_reconstructions(tokenizer: Origin) -> float | None:
    """Return the variance of reconstructions at the end of a tokenizer's training, or None if it was not measured."""
    measured = tokenizer.health.validation
    if "dependence" not in measured or "image_variance" not in measured:
        return None
    value = float(measured["dependence"] * measured["image_variance"])
    return value if value > 0 else None


def score_warnings(scores: dict[str, Any], generator: Origin, tokenizer: Origin) -> list[str]:
    """Return warnings from a generator's scores and both stages' origins; earlier versions recorded less."""
    sampling = read_sampling(Treatment.model_validate(scores["treatment"]).sampling or {})
    if "variety" in scores:
        collapsed = collapse_warnings(Variety(**scores["variety"]), sampling, tokenizer)
        if collapsed:  # collapsed samples say nothing about copies
            return collapsed
    memory = scores["memorization"]
    share = memory["copy_share"]
    # With few unseen images the 1 % threshold is just the nearest of them, and samples often get closer by chance.
    if share < COPIES or memory["num_unseen"] < FEW_UNSEEN:
        return []
    return [
        f"{share:.0%} of the samples are closer to a training image than reconstructions of unseen images are: it memorised images. "
        + _against_memory(generator)
    ]


def _against_memory(generator: Origin) -> str:
    try:
        config = GeneratorRun.from_json(json.dumps(generator.run_config))
    except UserError:  # a config from another version
        return "Train it on more images, or for fewer steps"
    return against_memory(Judged(config, generator.training.steps))
