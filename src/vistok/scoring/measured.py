"""A set of images under evaluation, with everything that the protocols of its scores share."""

from dataclasses import dataclass

import numpy as np

from vistok.metrics.features import FeatureExtractor
from vistok.metrics.interval import Replicates, frechet_replicates
from vistok.metrics.protocol import FRECHET, Protocol, Score, Treatment
from vistok.scoring.evaluators import ReferenceSet


@dataclass(frozen=True)
class Measured:
    """What images are compared with, in which network's features, and how they were made.

    `prefix` starts the names of scores: r for reconstructions, g for a generator's samples. `resize`: any resizing
    before the extractor's own.
    """

    prefix: str
    extractor: FeatureExtractor
    reference: ReferenceSet
    treatment: Treatment
    num_samples: int
    labels: str = "not used"
    resize: str = ""

    def protocol(self, metric: str, estimator: str, **other: object) -> Protocol:
        """Return the protocol of a score; `other` replaces fields that differ from those of the whole set."""
        fields: dict[str, object] = {
            "metric": metric,
            "extractor": self.extractor.name,
            "extractor_digest": self.extractor.digest,
            "reference": self.reference.name,
            "reference_digest": self.reference.digest,
            "num_reference": len(self.reference.features),
            "num_samples": self.num_samples,
            "resize": self.resize + self.extractor.resize,
            "labels": self.labels,
            "estimator": estimator,
        }
        return Protocol(**(fields | other))

    def score(self, metric: str, found: Replicates, estimator: str, **other: object) -> Score:
        """Return a score with its protocol."""
        return Score.of(found, self.protocol(metric, estimator, **other), self.treatment)

    def frechet_of(self, features: np.ndarray) -> Score:
        """Return the Fréchet distance of images with these features (images, features) as a score."""
        return self.frechet(frechet_replicates(features, self.reference.moments))

    def frechet(self, found: Replicates, estimator: str = FRECHET) -> Score:
        """Return a Fréchet distance as a score, named as the extractor names it."""
        return self.score(self.prefix + self.extractor.distance_name, found, estimator)
