"""Configs of what a classifier network learns from, and the table of their kinds."""

from typing import Annotated, Literal

from pydantic import Field

from vistok.config import Config, Kinds, Part


class LearningConfig(Config):
    """What every kind has: how many classes its images need at least."""

    kind: str

    @property
    def least_classes(self) -> int:
        """The number of classes below which there is nothing to learn."""
        return 1


class LabelsConfig(LearningConfig):
    """Cross-entropy over the images' classes."""

    kind: Literal["labels"] = "labels"

    @property
    def least_classes(self) -> int:
        """Two, to be told apart."""
        return 2


class ViewsConfig(LearningConfig):
    """Two random views of each image shall be alike, and unlike those of all others (SimCLR, arXiv 2002.05709).

    No label reaches the network, but for its last layer, which learns the classes from features that it cannot change: its accuracy
    tells how good they are.
    """

    kind: Literal["views"] = "views"
    # Of the softmax over a batch's views.
    temperature: float = Field(default=0.2, gt=0)
    # Width and outputs of the network between features and loss, which is thrown away.
    projector: int = Field(default=128, ge=1)
    # A view is a part of the image of at least this share of its area, in a proportion between 3:4 and 4:3.
    least_area: float = Field(default=0.3, gt=0, le=1)
    # Half of the views are mirrored.
    mirrored: bool = True
    # Contrast and brightness change by up to this share.
    jitter: float = Field(default=0.4, ge=0, lt=1)


LEARNING = {
    "labels": Part(LabelsConfig, "vistok.classifier.labels:Classification"),
    "views": Part(ViewsConfig, "vistok.classifier.contrast:Contrast"),
}
AnyLearning = Annotated[LearningConfig, Kinds(LearningConfig, LEARNING, "labels")]
