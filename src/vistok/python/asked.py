"""How a user wants something scored: by which network, on how many samples, drawn how."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vistok.data.config import DataConfig
from vistok.engine.device import best_device
from vistok.engine.log import Progress
from vistok.errors import UserError
from vistok.metrics.features import ClassifierFeatures, FeatureExtractor
from vistok.python.finding import model_path
from vistok.python.reference import Reference
from vistok.runs.frozen_networks import load_classifier_file
from vistok.scoring.evaluate_generator import usual_count
from vistok.scoring.evaluators import IMAGENET, choose_evaluator, require_unseen

NAMED = (IMAGENET, "1", "2")  # evaluators that are not runs


@dataclass(frozen=True)
class Asked:
    """The arguments of `vistok.score` that say how; `labels`, `of` and `guidance` as there."""

    evaluator: Any
    inception: str | Path | None
    labels: Any
    of: str | None
    count: int | None
    split: str
    batch_size: int | None
    seed: int
    guidance: float | None
    progress: Progress

    def drawn(self, reference: Reference) -> int:
        """Return how many images to draw."""
        return usual_count(reference.count) if self.count is None else self.count

    def extractor(self, reference: Reference) -> FeatureExtractor:
        """Return the network whose features are compared. Raises UserError if there is none for these images."""
        if isinstance(self.evaluator, FeatureExtractor):
            return self.evaluator
        inception = None if self.inception is None else str(self.inception)
        name = self.evaluator
        if name is not None and name not in NAMED:
            name = str(model_path(name, "classifier"))
        if reference.data is not None:
            return choose_evaluator(reference.data, name, inception, reference.class_names)
        if name in (None, IMAGENET):
            return choose_evaluator(DataConfig(dataset="folder"), name, inception)
        if inception is not None:
            raise UserError("give an evaluator or inception, not both: a score uses one network")
        if name in NAMED:
            raise UserError(f"evaluator {name!r} is for Fashion-MNIST's runs; give {IMAGENET!r}, or a classifier's run")
        model, header = load_classifier_file(Path(name))
        return ClassifierFeatures(model.to(best_device()), str(header["recipe"]), str(header["digest"]))

    def extractor_if_any(self, reference: Reference, in_losses: set[str]) -> tuple[FeatureExtractor | None, list[str]]:
        """Return the network, or None with the reason, where scores without one are still worth having.

        `in_losses`: digests of networks in the training losses, which must not score.
        """
        try:
            found = self.extractor(reference)
            require_unseen(found, in_losses)
            return found, []
        except UserError as error:
            if self.evaluator is not None or self.inception is not None:
                raise
            return None, [f"no Frechet distance: {error}"]
