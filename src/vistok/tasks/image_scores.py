"""Scores of generated images beside the Fréchet distance: precision and recall, sFID, Inception score."""

from typing import Any

import torch
from torch import Tensor

from vistok.metrics.features import FeatureExtractor, InceptionFeatures
from vistok.metrics.frechet import frechet_distance
from vistok.metrics.inception_score import SPLITS, inception_score
from vistok.metrics.interval import Replicates
from vistok.metrics.precision_recall import precision_recall
from vistok.metrics.protocol import Protocol, Score, Treatment
from vistok.rng import stable_choice
from vistok.tasks.evaluators import Collected, ReferenceSet

NEIGHBOURS = 3
SPATIAL = "Frechet distance, float64, of the first 7 channels of mixed_6's 1x1 branch at 17x17 places (ADM)"


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
) -> dict[str, Any]:
    """Return sFID and Inception score; {} for another extractor than Inception.

    No sFID where a reference file holds statistics of the pooled features alone.
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
            estimator=f"mean over {SPLITS} consecutive splits; logits without bias",
            **common,
        )
        mean, deviation = inception_score(logits)
        score = Score.of(Replicates(mean), protocol, treatment).model_dump(mode="json")
        scores["inception_score"] = score | {"deviation_over_splits": deviation}
    return scores
