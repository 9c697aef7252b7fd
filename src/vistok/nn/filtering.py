"""Which codes may be drawn: temperature, top-k and top-p, for whatever draws codes."""

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class CodeSampling(Protocol):
    """The fields of a sampling config that say how a code is drawn."""

    @property
    def seed(self) -> int: ...  # noqa: D102

    @property
    def temperature(self) -> float: ...  # noqa: D102

    @property
    def top_k(self) -> int | None: ...  # noqa: D102

    @property
    def top_p(self) -> float | None: ...  # noqa: D102


def keep_top_k(logits: Float[Tensor, "batch codes"], k: int) -> Float[Tensor, "batch codes"]:
    """Set all but the k largest logits to -inf."""
    if k >= logits.shape[-1]:
        return logits
    threshold = logits.topk(k, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < threshold, float("-inf"))


def keep_top_p(logits: Float[Tensor, "batch codes"], p: float) -> Float[Tensor, "batch codes"]:
    """Keep the smallest set of most probable codes whose probability reaches p; 1 keeps all."""
    if p >= 1:  # a rounded sum may reach 1 before the last code
        return logits
    ordered, order = logits.sort(dim=-1, descending=True)
    probability = ordered.softmax(dim=-1)
    beyond = probability.cumsum(dim=-1) - probability >= p
    return logits.masked_fill(beyond.scatter(-1, order, beyond), float("-inf"))


def filter_logits(logits: Float[Tensor, "batch codes"], sampling: CodeSampling) -> Float[Tensor, "batch codes"]:
    """Apply temperature, top-k and top-p in that order (temperature 0 is left to `choose`)."""
    if sampling.temperature not in (0.0, 1.0):
        logits = logits / sampling.temperature
    if sampling.top_k is not None:
        logits = keep_top_k(logits, sampling.top_k)
    if sampling.top_p is not None:
        logits = keep_top_p(logits, sampling.top_p)
    return logits
