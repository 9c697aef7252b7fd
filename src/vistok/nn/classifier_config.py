"""Config of the small classifier, in a module without torch, so that recipes load fast."""

from typing import Annotated, Literal

from pydantic import Field

from vistok.config import Config


class ClassifierConfig(Config):
    """Stages of `convs_per_stage` x (conv, norm, ReLU); every stage but the first halves the image."""

    kind: Literal["classifier"] = "classifier"
    image_size: int = Field(default=28, ge=4, le=2**14)
    in_channels: Literal[1, 3] = 1
    num_classes: int = Field(default=10, ge=1)
    stage_channels: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(16, 48, 96), min_length=1)
    convs_per_stage: int = Field(default=2, ge=1, le=100)
    feature_dim: int = Field(default=64, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
