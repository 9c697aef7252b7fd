"""Configs of the masked family: the transformer, what it is trained on, and how it is sampled."""

from typing import Literal

from pydantic import Field, model_validator

from vistok.config import later
from vistok.generator.config import GeneratorConfig, SamplingConfig
from vistok.nn.mixers.config import require_heads

# The share of tokens that are masked, from all to none; the curves are in schedule.py.
ScheduleName = Literal["arccos", "cosine", "linear", "square"]
# Steps of sampling where none are given (MaskGIT, TiTok), or as many as there are tokens, whichever is less.
USUAL_STEPS = 8


# Kinds of blocks -> the network that is made of them.
NETWORKS = {
    "llama": "vistok.generator.masked.network:MaskedNetwork",
    "bert": "vistok.generator.masked.bert:BertNetwork",
    "uvit": "vistok.generator.masked.uvit:UViTNetwork",
}


class MaskedConfig(GeneratorConfig):
    """MaskGIT (Chang et al. 2022, arXiv 2202.04200) over tokens on a grid or a line, in the autoregressive family's blocks.

    The default size is MaskGIT's. TiTok's generators (arXiv 2406.07550) have schedule "arccos" and unmasked_weight 0.1, and
    other blocks: "bert" (MaskGIT's, too), or for TiTok-S-128 "uvit". These have neither rotary positions nor norms of
    queries and keys, and their feed-forward layers are four times as wide as they are (`ffn_multiple` is not read).
    """

    kind: Literal["masked"] = "masked"
    width: int = Field(default=768, ge=4)
    depth: int = Field(default=24, ge=1, le=1000)
    num_heads: int = Field(default=16, ge=1)
    ffn_multiple: int = Field(default=256, ge=1)
    # Beside a learned vector for each position, which MaskGIT has alone.
    rotary: bool = True
    qk_norm: bool = True
    dropout: float = Field(default=0.1, ge=0, lt=1)
    label_dropout: float = Field(default=0.1, ge=0, lt=1)
    # How the share of masked tokens is drawn in training: this curve at an even random number.
    schedule: ScheduleName = "arccos"
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    # Weight of the cross-entropy of tokens that are not masked, beside 1 for those that are.
    unmasked_weight: float = Field(default=0.0, ge=0, le=1)
    blocks: Literal["llama", "bert", "uvit"] = later("llama")

    @model_validator(mode="after")
    def _heads(self) -> "MaskedConfig":
        require_heads(self.width, self.num_heads)
        if self.blocks != "llama" and (self.rotary or self.qk_norm):
            raise ValueError(
                f"blocks {self.blocks!r} have neither rotary positions nor norms of queries and keys: set rotary and qk_norm to false"
            )
        if self.blocks == "uvit" and self.depth % 2:
            raise ValueError(
                f"depth {self.depth}: the blocks of 'uvit' before the middle are as many as those after it; give an even one"
            )
        return self


class MaskedSampling(SamplingConfig):
    """From no tokens to all of them in `steps` steps; None: 8, or one for each token if there are fewer.

    After each step the schedule says how many tokens stay masked (None: the schedule of training). Those with the greatest
    confidence are kept: the log-probability of the code drawn, plus Gumbel noise times `choice_temperature`, which falls
    linearly to 0 in the last step. In the code of TiTok ("titok") the confidence is the logit instead, and codes are drawn
    at the choice temperature, too. Order "random" fills tokens in random order: with one step for each token, this is
    random-order autoregression.

    The guidance scale is constant, grows linearly from 1, or grows as (1 - cos(pi x^power)) / 2 (x: steps done, of all).
    """

    kind: Literal["masked"] = "masked"
    steps: int | None = Field(default=None, ge=1, le=10_000)
    schedule: ScheduleName | None = None
    order: Literal["confidence", "random"] = "confidence"
    choice_temperature: float = Field(default=4.5, ge=0, allow_inf_nan=False)
    convention: Literal["maskgit", "titok"] = "maskgit"
    guidance_schedule: Literal["constant", "linear", "power_cosine"] = "constant"
    guidance_power: float = Field(default=3.0, gt=0, allow_inf_nan=False)
    temperature: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    precision: Literal["float32", "bfloat16"] = "float32"

    @property
    def always_alike(self) -> bool:
        """Whether the most likely code is always chosen, in an order without noise."""
        steady = self.order == "confidence" and (self.choice_temperature == 0 or self.steps == 1)
        likeliest = self.temperature == 0 or self.top_k == 1 or self.convention == "titok"
        return steady and likeliest
