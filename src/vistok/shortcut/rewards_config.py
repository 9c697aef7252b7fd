"""Rewards of images: what a shortcut can be trained for besides being near its teacher."""

from typing import Literal

from pydantic import Field

from vistok.config import Config


class RewardConfig(Config):
    """`kind` "class": log-probability of the label under a small shipped classifier that no score uses. "ink": mean brightness.

    `weight`: of the reward in the loss (the paper: 100, for another reward).
    """

    kind: Literal["class", "ink"] = "class"
    weight: float = Field(default=1.0, ge=0, allow_inf_nan=False)
