"""Mixer configs, and the table of mixer kinds."""

from typing import Annotated, Literal

from vistok.config import Config, Kinds, Part


def require_heads(width: int, num_heads: int) -> None:
    """Raise ValueError where heads do not divide the width, or not into what 2-D rotary positions need."""
    if width % num_heads or (width // num_heads) % 4:
        raise ValueError(
            f"width / num_heads must be a multiple of 4 (2-D rotary positions), found {width} / {num_heads}"
        )


class MixerConfig(Config):
    """Fields that every kind of mixer has."""

    kind: str


class SoftmaxConfig(MixerConfig):
    """Causal multi-head self-attention."""

    kind: Literal["softmax"] = "softmax"


MIXERS = {"softmax": Part(SoftmaxConfig, "vistok.nn.mixers.softmax:Attention")}
AnyMixer = Annotated[MixerConfig, Kinds(MixerConfig, MIXERS, "softmax")]
