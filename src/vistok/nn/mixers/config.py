"""Configs of mixers, and the table of their kinds."""

from typing import Annotated, Literal

from vistok.config import Config, Kinds, Part


class MixerConfig(Config):
    """What every kind has."""

    kind: str


class SoftmaxConfig(MixerConfig):
    """Causal multi-head self-attention."""

    kind: Literal["softmax"] = "softmax"


MIXERS = {"softmax": Part(SoftmaxConfig, "vistok.nn.mixers.softmax:Attention")}
AnyMixer = Annotated[MixerConfig, Kinds(MixerConfig, MIXERS, "softmax")]
