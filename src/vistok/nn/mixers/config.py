"""Mixer configs, and the table of mixer kinds."""

from typing import Annotated, Literal

from vistok.config import Config, Kinds, Part


class MixerConfig(Config):
    """Fields that every kind of mixer has."""

    kind: str


class SoftmaxConfig(MixerConfig):
    """Causal multi-head self-attention."""

    kind: Literal["softmax"] = "softmax"


MIXERS = {"softmax": Part(SoftmaxConfig, "vistok.nn.mixers.softmax:Attention")}
AnyMixer = Annotated[MixerConfig, Kinds(MixerConfig, MIXERS, "softmax")]
