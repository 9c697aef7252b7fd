"""Sampling token by token.

The noise is keyed by (seed, image, position), so a sample depends only on its seed and number. Batch size and number of
processes do not change it, unless two codes are so close that another batch size's rounding swaps them.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vistok.generator.autoregressive.config import AutoregressiveSampling
from vistok.generator.autoregressive.frozen import FrozenTransformer
from vistok.generator.autoregressive.stepwise import StepwiseTransformer
from vistok.generator.codes import choose, guide
from vistok.generator.conditioning import require_label_dropout, require_labels

# A model prepared for writing tokens.
Ready = FrozenTransformer | StepwiseTransformer


class Guided:
    """A frozen network and its cache; guidance runs as a single batch of twice the size."""

    def __init__(self, frozen: Ready, batch: int, scale: float, spare: int = 0) -> None:
        require_label_dropout(frozen.model.config.label_dropout, scale)
        self.frozen, self.scale = frozen, scale
        self.cache: Any = frozen.new_cache(batch if scale == 1.0 else 2 * batch, spare)

    def start(self, labels: Int[Tensor, "batch"]) -> Float[Tensor, "batch 1 codes"]:
        """Feed the class token; return the logits for the first token. Raises UserError for labels out of range."""
        require_labels(labels, self.frozen.model.num_classes)
        null_labels = torch.full_like(labels, self.frozen.model.num_classes)
        inputs = labels if self.scale == 1.0 else torch.cat([labels, null_labels])
        return self._guided(self.frozen.model.classes.table(inputs)[:, None])

    def follow(self, tokens: Int[Tensor, "batch new"]) -> Float[Tensor, "batch new codes"]:
        """Feed tokens; return the logits for the token after each."""
        x = self.frozen.model.token_embedding(tokens)
        return self._guided(x if self.scale == 1.0 else x.repeat(2, 1, 1))

    def all_rows(self, values: Int[Tensor, "batch"]) -> Tensor:
        """Return the values repeated to one per row of the cache."""
        return values if self.scale == 1.0 else values.repeat(2)

    def _guided(self, x: Tensor) -> Tensor:
        logits = self.frozen.logits(x, self.cache).float()
        if self.scale == 1.0:
            return logits
        conditional, unconditional = logits.chunk(2)
        return guide(conditional, unconditional, self.scale)


@torch.no_grad()
def sample_tokens(
    frozen: Ready,
    labels: Int[Tensor, "batch"],
    image_ids: Int[Tensor, "batch"],
    sampling: AutoregressiveSampling,
) -> Int[Tensor, "batch positions"]:
    """Draw token grids, one token at a time. Raises UserError for labels out of range."""
    num_tokens = frozen.model.num_tokens
    tokens = torch.empty(len(labels), num_tokens, dtype=torch.int64, device=labels.device)
    guided = Guided(frozen, len(labels), sampling.guidance_scale)
    logits = guided.start(labels)
    for position in range(num_tokens):
        if position:
            logits = guided.follow(tokens[:, position - 1 : position])
        tokens[:, position] = choose(logits[:, 0], image_ids, position, sampling)
    return tokens
