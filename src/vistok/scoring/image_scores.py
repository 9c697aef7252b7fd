"""Image scores other than the Fréchet distance: kernel distance, precision and recall, sFID, Inception score."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vistok.metrics.features import InceptionFeatures
from vistok.metrics.frechet import frechet_distance
from vistok.metrics.inception_score import SPLITS, inception_score, shuffled
from vistok.metrics.interval import Replicates
from vistok.metrics.kernel_distance import kernel_distance, kernel_estimator
from vistok.metrics.precision_recall import precision_recall
from vistok.rng import stable_choice
from vistok.scoring.evaluators import Collected, score_key
from vistok.scoring.measured import Measured

NEIGHBOURS = 3
MIXED = "splits of images shuffled by a fixed key"
SPATIAL = "Frechet distance, float64, of the first 7 channels of mixed_6's 1x1 branch at 17x17 places (ADM)"


def kernel_score(measured: Measured, features: np.ndarray, paired: bool = False) -> dict[str, Any]:
    """Return the kernel distance under its key; {} for too few images. `paired`: row i belongs to reference image i."""
    fakes, real = len(features), measured.reference.features
    if min(fakes, len(real)) < 2:
        return {}
    metric = measured.prefix + measured.extractor.kernel_name
    estimator = kernel_estimator(fakes, len(real), paired)
    score = measured.score(metric, kernel_distance(features, real, paired), estimator, num_samples=fakes)
    return {metric.lower(): score.model_dump(mode="json")}


def all_image_scores(
    measured: Measured, fake: Collected, limit: int | None = None, mixed: bool = False
) -> dict[str, Any]:
    """Return all scores of images in an extractor's features, by key, and what was left out and why.

    `limit`: images of each kind for precision and recall. `mixed`: as for `inception_scores`.
    """
    scores = {
        score_key(measured.prefix, measured.extractor): measured.frechet_of(fake.features.numpy()).model_dump(
            mode="json"
        )
    }
    scores |= inception_scores(measured, fake, mixed)
    scores |= kernel_score(measured, fake.features.numpy())
    scores |= precision_recall_scores(measured, fake.features, limit)
    return scores | left_out(measured, scores)


def left_out(measured: Measured, scores: dict[str, Any]) -> dict[str, Any]:
    """Return {"left_out": reasons} for the scores that could not be computed; {} if none is missing."""
    reference = measured.reference
    reasons = []
    if "precision" not in scores and not len(reference.features):
        reasons.append(
            f"kernel distance, precision and recall: {reference.name} holds a mean and a covariance but no images"
        )
    elif "precision" not in scores:
        reasons.append(f"precision and recall: they need more than {NEIGHBOURS} images of each kind")
    if isinstance(measured.extractor, InceptionFeatures):
        if reference.spatial is None:
            reasons.append(f"sFID: {reference.name} holds no statistics for it")
        if "inception_score" not in scores:
            reasons.append(f"Inception score: it needs at least {SPLITS} samples")
    return {"left_out": reasons} if reasons else {}


def precision_recall_scores(measured: Measured, fake: Tensor, limit: int | None = None) -> dict[str, Any]:
    """Return both as scores, over all images or over `limit` of each kind, random for reals; {} for too few images."""
    features = measured.reference.features
    chosen = stable_choice(0, "precision recall", len(features), limit or len(features))
    real, fake = torch.from_numpy(features[chosen]), fake[:limit]
    if min(len(real), len(fake)) <= NEIGHBOURS:
        return {}
    estimator = f"{NEIGHBOURS} nearest neighbours (arXiv 1904.06991)"
    counts = {"num_reference": len(real), "num_samples": len(fake)}
    return {
        name: measured.score(name, Replicates(value), estimator, **counts).model_dump(mode="json")
        for name, value in zip(("precision", "recall"), precision_recall(real, fake, NEIGHBOURS), strict=True)
    }


def inception_scores(measured: Measured, fake: Collected, mixed: bool = False) -> dict[str, Any]:
    """Return sFID and Inception score; {} for any extractor other than Inception.

    There is no sFID if a reference file holds statistics of the pooled features alone. `mixed`: the Inception score is
    over splits of shuffled samples, not consecutive ones.
    """
    if not isinstance(measured.extractor, InceptionFeatures):
        return {}
    logits, scores = torch.cat(fake.logits), {}
    if fake.spatial is not None and measured.reference.spatial is not None:
        distance = Replicates(frechet_distance(fake.spatial, measured.reference.spatial))
        score = measured.score(f"{measured.prefix}sFID", distance, SPATIAL, num_samples=len(logits))
        scores[f"{measured.prefix}sfid"] = score.model_dump(mode="json")
    if len(logits) >= SPLITS:
        how = f"mean over {SPLITS} {MIXED if mixed else 'consecutive splits'}; logits without bias"
        mean, deviation = inception_score(shuffled(logits) if mixed else logits)
        nothing = {"reference": "none", "reference_digest": "", "num_reference": 0, "num_samples": len(logits)}
        score = measured.score("Inception score", Replicates(mean), how, **nothing)
        scores["inception_score"] = score.model_dump(mode="json") | {"deviation_over_splits": deviation}
    return scores
