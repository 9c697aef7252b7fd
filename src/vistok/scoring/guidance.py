"""The guidance scale whose samples come closest to held-out images."""

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from vistok.config import science
from vistok.engine.distributed import join_world
from vistok.engine.log import Progress
from vistok.metrics.features import FeatureExtractor
from vistok.metrics.variety import Drawn
from vistok.rng import derive_seed
from vistok.runs.drawing import Clock
from vistok.scoring.evaluate_generator import Against, Drawing, Stage2, check_scoring, compared
from vistok.scoring.evaluators import SCHEMA, finished_evaluation, keep_evaluation
from vistok.scoring.image_scores import kernel_score


def choose_guidance(
    stage2: Stage2,
    extractor: FeatureExtractor,
    scales: Sequence[float],
    drawing: Drawing,
    progress: Progress,
) -> dict[str, Any]:
    """Return the guidance scale with the least distance to `val`, images held out of train: never the test set.

    Where there are fewer images of either kind than features, that is the kernel distance: a Fréchet distance would be mostly
    bias, which differs from scale to scale. Sampling is otherwise the same as for scoring, except for the noise, which has a
    separate seed.
    """
    source = check_scoring(stage2, Against((extractor,), "val"), drawing.count)
    few = min(len(source), drawing.count) < extractor.num_features
    for scale in scales:
        stage2.generator.check_guidance(scale)
    sampling = drawing.sampling.replace(seed=derive_seed(drawing.sampling.seed, "guidance search") % 2**31)
    file = stage2.file(
        "guidance",
        images=source.digest,
        extractor=extractor.digest,
        sampling=science(sampling),
        scales=list(scales),
        num_samples=drawing.count,
        **({"by": "kernel distance"} if few else {}),
    )
    done = finished_evaluation(file, progress)
    if done is not None:
        return done
    started = time.monotonic()
    scores: dict[str, Any] = {}
    kernels: dict[str, Any] = {}
    for scale in scales:
        candidate = replace(drawing, sampling=sampling.replace(guidance_scale=scale), drawn=Drawn(), clock=Clock())
        name = f"choosing guidance: {scale:g}"
        ((measured, features),) = compared(stage2, [(extractor, "val")], candidate, progress, name)
        scores[f"{scale:g}"] = measured.frechet_of(features).model_dump(mode="json")
        if few:
            (kernels[f"{scale:g}"],) = kernel_score(measured, features).values()
    judged = kernels or scores
    best = min(scales, key=lambda scale: judged[f"{scale:g}"]["value"])
    progress.say(f"guidance {best:g} has the least {'kernel' if few else 'Fréchet'} distance to val")
    result = {
        "schema_version": SCHEMA,
        "kind": "guidance",
        "guidance_scale": best,
        "at_the_edge": at_the_edge(best, scales),
        "num_samples": drawing.count,
        "scores": scores,
        **({"kernel_scores": kernels} if few else {}),
        "seconds": round(time.monotonic() - started, 1),
    }
    if join_world().main:
        keep_evaluation(file, result)
    return result


def at_the_edge(best: float, scales: Collection[float]) -> bool:
    """Whether scales beyond those that were tried might be better: the best is the last of several, or the first and not off."""
    return len(scales) > 1 and (best == max(scales) or (best == min(scales) and best > 1))
