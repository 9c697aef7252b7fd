"""The part of a run's config that a classifier's objective reads, and what all of these objectives share."""

from typing import Protocol, runtime_checkable

import torch

from vistok.classifier.config import LearningConfig
from vistok.engine.config import OptimizerConfig
from vistok.engine.objective import Objective
from vistok.engine.phase import MicroBatch
from vistok.nn.classifier import Classifier
from vistok.nn.classifier_config import ClassifierConfig
from vistok.rng import seeded_init


@runtime_checkable
class ClassifierTraining(Protocol):
    """The fields of a run's config that the objectives read."""

    @property
    def seed(self) -> int: ...  # noqa: D102

    @property
    def batch_size(self) -> int: ...  # noqa: D102

    @property
    def classifier(self) -> ClassifierConfig: ...  # noqa: D102

    @property
    def learns(self) -> LearningConfig: ...  # noqa: D102

    @property
    def optimizer(self) -> OptimizerConfig: ...  # noqa: D102


class ClassifierObjective(Objective):
    """A classifier network, trained in one way or another."""

    averaged = ("classifier",)

    def __init__(self, run: ClassifierTraining, device: torch.device) -> None:
        self.run = run
        with seeded_init(run.seed, "init", "classifier"), device:
            self.model = Classifier(run.classifier)
        self.networks = {"classifier": self.model}

    def example(self, batch_size: int, device: torch.device) -> MicroBatch:
        """Return images and labels of the right shapes, all zeros."""
        size, channels = self.run.classifier.image_size, self.run.classifier.in_channels
        return {
            "images": torch.zeros(batch_size, channels, size, size, device=device),
            "labels": torch.zeros(batch_size, dtype=torch.int64, device=device),
            "positions": torch.zeros(batch_size, dtype=torch.int64, device=device),
        }
