"""Configs of the autoregressive family: the transformer, and how it is sampled."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vistok.config import later
from vistok.generator.config import GeneratorConfig, SamplingConfig
from vistok.nn.mixers.config import AnyMixer, SoftmaxConfig, require_heads


class AutoregressiveConfig(GeneratorConfig):
    """A Llama-style class-conditional transformer over tokens (CRT paper A.2; LlamaGen).

    The grid, the codebook size and the number of classes come from the latent cache.
    """

    kind: Literal["autoregressive"] = later("autoregressive")
    width: int = Field(default=768, ge=4)
    depth: int = Field(default=12, ge=1, le=1000)
    num_heads: int = Field(default=12, ge=1)
    ffn_multiple: int = Field(default=256, ge=1)
    qk_norm: bool = True
    dropout: float = Field(default=0.1, ge=0, lt=1)
    label_dropout: float = Field(default=0.1, ge=0, lt=1)
    class_token_rotary: Literal["identity", "zero"] = "identity"
    mixer: AnyMixer = later(SoftmaxConfig())
    # Weight of the squared log-normaliser, which keeps logits small (CRT paper A.2: 1e-4 in some runs with 576 tokens).
    z_loss: Annotated[float, Field(ge=0)] = later(0.0)
    # Share of each label that is spread over all codes in training (DiGIT: 0.1).
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = later(0.0)

    @model_validator(mode="after")
    def _heads(self) -> "AutoregressiveConfig":
        require_heads(self.width, self.num_heads)
        return self


# Heads, layers and width from the paper's Table 2, named by millions of parameters with 16,384 codes, 1,000 classes.
PAPER_SIZES: dict[str, tuple[int, int, int]] = {
    "52m": (10, 6, 640),
    "81m": (11, 9, 704),
    "111m": (12, 12, 768),
    "212m": (14, 18, 896),
    "343m": (16, 24, 1024),
    "517m": (18, 30, 1152),
    "775m": (20, 36, 1280),
}


def paper_size(name: str) -> AutoregressiveConfig:
    """Return one of the paper's seven sizes ("52m" ... "775m")."""
    heads, depth, width = PAPER_SIZES[name]
    return AutoregressiveConfig(width=width, depth=depth, num_heads=heads)


class AutoregressiveSampling(SamplingConfig):
    """Guidance, then temperature, top-k and top-p in that order, then Gumbel noise and the arg-max.

    `int8` rounds the weights to eight bits, which is faster but changes the samples. `precision` bfloat16 halves the
    memory of weights and cache, and changes the samples too; bfloat16-weights rounds the weights alone, and sums, inputs and
    cache stay float32.
    """

    kind: Literal["autoregressive"] = later("autoregressive")
    precision: Literal["float32", "bfloat16", "bfloat16-weights"] = later("float32")
    temperature: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    top_k: int | None = Field(default=None, ge=1)
    top_p: float | None = Field(default=None, gt=0, le=1)
    int8: bool = False

    @model_validator(mode="after")
    def _one_rounding(self) -> "AutoregressiveSampling":
        if self.int8 and self.precision != "float32":
            raise ValueError(f"int8 and precision {self.precision} are two ways of rounding the weights; choose one")
        return self

    @property
    def rounding(self) -> Literal["none", "int8", "bfloat16"]:
        """How weights are rounded that are used in float32."""
        return "int8" if self.int8 else "bfloat16" if self.precision == "bfloat16-weights" else "none"

    @property
    def always_alike(self) -> bool:
        """Whether the most likely code is always chosen."""
        return self.temperature == 0 or self.top_k == 1
