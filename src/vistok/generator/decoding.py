"""Sampling, token by token: small pure functions that compose.

The noise is keyed by (seed, image, position), so a sample depends on its seed and number alone: batch
size and number of processes do not change it.
"""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vistok.errors import UserError
from vistok.generator.config import SamplingConfig
from vistok.rng import gumbel_grid

if TYPE_CHECKING:
    from vistok.generator.autoregressive import AutoregressiveGenerator


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Return uncond + scale * (cond - uncond) (classifier-free guidance; CRT paper A.2)."""
    return unconditional + scale * (conditional - unconditional)


def keep_top_k(logits: Float[Tensor, "batch codes"], k: int) -> Float[Tensor, "batch codes"]:
    """Set all but the k largest logits to -inf."""
    if k >= logits.shape[-1]:
        return logits
    threshold = logits.topk(k, dim=-1).values[:, -1:]
    return logits.masked_fill(logits < threshold, float("-inf"))


def keep_top_p(logits: Float[Tensor, "batch codes"], p: float) -> Float[Tensor, "batch codes"]:
    """Keep the smallest set of most probable codes whose probability reaches p."""
    ordered, order = logits.sort(dim=-1, descending=True)
    probability = ordered.softmax(dim=-1)
    beyond = probability.cumsum(dim=-1) - probability >= p
    return logits.masked_fill(beyond.scatter(-1, order, beyond), float("-inf"))


def filter_logits(logits: Float[Tensor, "batch codes"], sampling: SamplingConfig) -> Float[Tensor, "batch codes"]:
    """Apply temperature, top-k, top-p in that order (temperature 0 is left to `choose`)."""
    if sampling.temperature not in (0.0, 1.0):
        logits = logits / sampling.temperature
    if sampling.top_k is not None:
        logits = keep_top_k(logits, sampling.top_k)
    if sampling.top_p is not None:
        logits = keep_top_p(logits, sampling.top_p)
    return logits


def choose(
    logits: Float[Tensor, "batch codes"], image_ids: Int[Tensor, "batch"], position: int, sampling: SamplingConfig
) -> Int[Tensor, "batch"]:
    """Draw one code per row by the Gumbel arg-max; temperature 0 takes the most likely."""
    logits = filter_logits(logits.float(), sampling)
    if sampling.temperature > 0:
        logits = logits + gumbel_grid(sampling.seed, image_ids, position, logits.shape[-1])
    return logits.argmax(dim=-1)


@torch.no_grad()
def sample_tokens(
    model: "AutoregressiveGenerator",
    labels: Int[Tensor, "batch"],
    image_ids: Int[Tensor, "batch"],
    sampling: SamplingConfig,
) -> Int[Tensor, "batch positions"]:
    """Draw token grids with a key-value cache; guidance runs as one batch of twice the size.

    Raises UserError for labels out of range, and for guidance with a model trained without label dropout.
    """
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < model.num_classes:
        raise UserError(
            f"labels must lie in 0...{model.num_classes - 1}, found {int(labels.min())}...{int(labels.max())}"
        )
    guided = sampling.guidance_scale != 1.0
    if guided and model.config.label_dropout == 0:
        raise UserError(
            f"guidance_scale {sampling.guidance_scale} needs a generator trained with label dropout, this one had "
            "label_dropout 0; use guidance_scale 1, or train with --set generator.label_dropout=0.1"
        )
    inputs = torch.cat([labels, torch.full_like(labels, model.num_classes)]) if guided else labels
    cache = model.new_cache(len(inputs))
    tokens = torch.empty(len(labels), model.num_tokens, dtype=torch.int64, device=labels.device)
    x = model.classes.table(inputs)[:, None]
    for position in range(model.num_tokens):
        logits = model.decode_one(x, cache)
        if guided:
            conditional, unconditional = logits.chunk(2)
            logits = guide(conditional, unconditional, sampling.guidance_scale)
        tokens[:, position] = choose(logits, image_ids, position, sampling)
        newest = tokens[:, position : position + 1]
        x = model.token_embedding(newest.repeat(2, 1) if guided else newest)
    return tokens
