"""Scores of images beside the Fréchet distance: kernel distance, precision and recall, sFID, Inception score."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vistok.metrics.features import FeatureExtractor, InceptionFeatures
from vistok.metrics.frechet import frechet_distance
from vistok.metrics.inception_score import SPLITS, inception_score, shuffled
from vistok.metrics.interval import Replicates
from vistok.metrics.kernel_distance import kernel_distance, kernel_estimator
from vistok.metrics.precision_recall import precision_recall
from vistok.metrics.protocol import Protocol, Score, Treatment
from vistok.rng import stable_choice
from vistok.scoring.evaluators import Collected, ReferenceSet, distance_protocol

NEIGHBOURS = 3
MIXED = "splits of images shuffled by a fixed key"
SPATIAL = "Frechet distance, float64, of the first 7 channels of mixed_6's 1x1 branch at 17x17 places (ADM)"


def kernel_score(
    prefix: str,
    features: np.ndarray,
    reference: ReferenceSet,
    extractor: FeatureExtractor,
    treatment: Treatment,
    labels: str = "not used",
    resize: str = "",
    paired: bool = False,
) -> dict[str, Any]:
    """Return the kernel distance by its key; {} for too few images. `paired`: row i is of image i of the reference."""
    fakes, reals = len(features), len(reference.features)
    if min(fakes, reals) < 2:
        return {}
    estimator = kernel_estimator(fakes, reals, paired)
    metric = prefix + extractor.kernel_name
    protocol = distance_protocol(metric, fakes, reference, extractor, labels, estimator, resize)
    score = Score.of(kernel_distance(features, reference.features, paired), protocol, treatment)
    return {protocol.metric.lower(): score.model_dump(mode="json")}


def left_out(scores: dict[str, Any], reference: ReferenceSet, extractor: FeatureExtractor) -> dict[str, Any]:
    """Return {"left_out": sentences} on the scores that could not be made; {} where none is missing."""
    reasons = []
    if "precision" not in scores and not len(reference.features):
        reasons.append(
            f"kernel distance, precision and recall: {reference.name} holds a mean and a covariance, no images"
        )
    elif "precision" not in scores:
        reasons.append(f"precision and recall: they need more than {NEIGHBOURS} images of each kind")
    if isinstance(extractor, InceptionFeatures):
        if reference.spatial is None:
            reasons.append(f"sFID: {reference.name} holds no statistics for it")
        if "inception_score" not in scores:
            reasons.append(f"Inception score: it needs at least {SPLITS} samples")
    return {"left_out": reasons} if reasons else {}


def precision_recall_scores(
    fake: Tensor,
    reference: ReferenceSet,
    extractor: FeatureExtractor,
    treatment: Treatment,
    labels: str,
    limit: int | None = None,
    resize: str = "",
) -> dict[str, Any]:
    """Return both as scores, over all images, or as many random ones of each kind as `limit`; {} for too few."""
    count = len(reference.features)
    chosen = stable_choice(0, "precision recall", count, limit or count)
    real, fake = torch.from_numpy(reference.features[chosen]), fake[:limit]
    if min(len(real), len(fake)) <= NEIGHBOURS:
        return {}
    values = precision_recall(real, fake, NEIGHBOURS)
    return {
        name: Score.of(
            Replicates(value),
            Protocol(
                metric=name,
                extractor=extractor.name,
                extractor_digest=extractor.digest,
                reference=reference.name,
                reference_digest=reference.digest,
                num_reference=len(real),
                num_samples=len(fake),
                resize=resize + extractor.resize,
                labels=labels,
                estimator=f"{NEIGHBOURS} nearest neighbours (arXiv 1904.06991)",
            ),
            treatment,
        ).model_dump(mode="json")
        for name, value in zip(("precision", "recall"), values, strict=True)
    }


def inception_scores(
    prefix: str,
    fake: Collected,
    reference: ReferenceSet,
    extractor: FeatureExtractor,
    treatment: Treatment,
    labels: str,
    resize: str = "",
    mixed: bool = False,
) -> dict[str, Any]:
    """Return sFID and Inception score; {} for another extractor than Inception.

    No sFID where a reference file holds statistics of the pooled features alone. `mixed`: the Inception score is over
    splits of shuffled samples, not of consecutive ones.
    """
    if not isinstance(extractor, InceptionFeatures):
        return {}
    logits = torch.cat(fake.logits)
    common: dict[str, Any] = {
        "extractor": extractor.name,
        "extractor_digest": extractor.digest,
        "num_samples": len(logits),
        "resize": resize + extractor.resize,
        "labels": labels,
    }
    scores = {}
    if fake.spatial is not None and reference.spatial is not None:
        protocol = Protocol(
            metric=f"{prefix}sFID",
            reference=reference.name,
            reference_digest=reference.digest,
            num_reference=len(reference.features),
            estimator=SPATIAL,
            **common,
        )
        distance = Replicates(frechet_distance(fake.spatial, reference.spatial))
        scores[f"{prefix}sfid"] = Score.of(distance, protocol, treatment).model_dump(mode="json")
    if len(logits) >= SPLITS:
        protocol = Protocol(
            metric="Inception score",
            reference="none",
            reference_digest="",
            num_reference=0,
            estimator=f"mean over {SPLITS} {MIXED if mixed else 'consecutive splits'}; logits without bias",
            **common,
        )
        mean, deviation = inception_score(shuffled(logits) if mixed else logits)
        score = Score.of(Replicates(mean), protocol, treatment).model_dump(mode="json")
        scores["inception_score"] = score | {"deviation_over_splits": deviation}
    return scores
