"""What samples show to be wrong: that they are all alike, or copies."""

import json
from typing import Any

from vistok.errors import UserError
from vistok.generator.config import SamplingConfig
from vistok.generator.families import read_sampling
from vistok.metrics.protocol import Treatment
from vistok.metrics.variety import Variety
from vistok.origin import Origin
from vistok.runs.config import GeneratorRun
from vistok.runs.health.advice import Judged
from vistok.runs.health.generator_symptoms import against_memory

SAME, DIFFERENT = 0.2, 0.8  # shares of the samples: that show the commonest picture, and of different pictures
VARIANCE = 0.1  # of samples, as a share of what reconstructions of held-out images have
ENOUGH = 10  # samples whose variance says something
COPIES = 0.1  # share of samples that are nearer to a training image than 99 % of unseen images, which give 0.01


def collapse_warnings(found: Variety, sampling: SamplingConfig, tokenizer: Origin, chosen: bool = False) -> list[str]:
    """Return what samples show of a collapse; `tokenizer`: its origin, `chosen`: they are of some classes alone.

    Without noise the samples of a class are one picture: that says nothing.
    """
    if sampling.always_alike or found.count < 2:
        return []
    if found.commonest > 1 and found.commonest >= SAME * found.count:
        return [f"{found.commonest} of {found.count} samples are the same picture"]
    if found.distinct_pictures < DIFFERENT * found.count:
        return [f"{found.count} samples show {found.distinct_pictures} different pictures only"]
    expected = _variance_of_reconstructions(tokenizer)
    if expected is None or chosen or found.count < ENOUGH or found.variance >= VARIANCE * expected:
        return []
    return [
        f"samples are nearly the same picture: they vary {found.variance / expected:.3f} times as much as reconstructions of "
        "held-out images do"
    ]


def _variance_of_reconstructions(tokenizer: Origin) -> float | None:
    """Return what a tokenizer's training measured at its end, where it did."""
    measured = tokenizer.health.validation
    if "dependence" not in measured or "image_variance" not in measured:
        return None
    value = float(measured["dependence"] * measured["image_variance"])
    return value if value > 0 else None


def score_warnings(scores: dict[str, Any], generator: Origin, tokenizer: Origin) -> list[str]:
    """Return what a generator's scores show to be wrong, by the origins of both stages; of earlier versions' less is known."""
    sampling = read_sampling(Treatment.model_validate(scores["treatment"]).sampling or {})
    if "variety" in scores:
        collapsed = collapse_warnings(Variety(**scores["variety"]), sampling, tokenizer)
        if collapsed:  # copies of what is nobody's picture are none
            return collapsed
    memory = scores["memorization"]
    share = memory["copy_share"]
    # Of few unseen images the nearest one stands for 1 %, and is often passed.
    if share < max(COPIES, 3 / (memory["num_unseen"] + 1)):
        return []
    return [
        f"{share:.0%} of the samples are nearer to a training image than unseen images are: it learned images by heart. "
        + _against_memory(generator)
    ]


def _against_memory(generator: Origin) -> str:
    try:
        config = GeneratorRun.from_json(json.dumps(generator.run_config))
    except UserError:  # of another version
        return "Train it on more images, or for fewer steps"
    return against_memory(Judged(config, generator.training.steps))
