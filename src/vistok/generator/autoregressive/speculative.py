"""Exact speculative decoding: a small draft writes ahead, and the target checks several tokens in one pass.

Draft and target draw with the same Gumbel noise, keyed by (seed, image, position). A checked token is therefore the one
that plain decoding would have drawn, and the draft's guess is right whenever its logits lead to the same arg-max; no
random acceptance step is needed (compare Leviathan et al. 2023, arXiv 2211.17192).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from vistok.errors import UserError
from vistok.generator.autoregressive.config import AutoregressiveSampling
from vistok.generator.autoregressive.frozen import FrozenTransformer
from vistok.generator.autoregressive.sampling import Guided
from vistok.generator.codes import choose
from vistok.generator.interface import Generator


@dataclass
class Acceptance:
    """A sampler's counts: target passes after the first token, guesses checked, guesses right, tokens, images."""

    passes: int = 0
    guesses: int = 0
    right: int = 0
    tokens: int = 0
    images: int = 0

    @property
    def rate(self) -> float:
        """Share of guesses that were right, counted up to the first wrong one of each pass."""
        return self.right / max(1, self.guesses)

    @property
    def passes_per_image(self) -> float:
        """Target passes per image, including the one for the first token."""
        return 1 + self.passes / max(1, self.images)

    @property
    def tokens_per_pass(self) -> float:
        """Tokens gained per target pass; plain decoding gives 1."""
        return self.tokens / max(1, self.passes)


def check_draft(target: Generator, draft: Generator) -> None:
    """Raise UserError unless both write the same kind of tokens."""
    for name in ("num_tokens", "codebook_size", "num_classes"):
        ours, theirs = getattr(target, name), getattr(draft, name)
        if ours != theirs:
            raise UserError(
                f"the draft's {name} is {theirs}, the generator's {ours}; train a draft on the same token cache"
            )


class SpeculativeSampler:
    """Draws exactly what plain decoding draws; `acceptance` counts over all calls."""

    def __init__(
        self, target: FrozenTransformer, draft: FrozenTransformer, sampling: AutoregressiveSampling, lookahead: int
    ) -> None:
        check_draft(target.model, draft.model)
        if lookahead < 1:
            raise UserError(f"lookahead {lookahead}: the draft must write at least one token ahead")
        self.target, self.draft, self.sampling, self.lookahead = target, draft, sampling, lookahead
        self.acceptance = Acceptance()
        # FLOPs per token, for both networks together.
        self.step_flops = 0.0

    @property
    def spent(self) -> tuple[float, float]:
        """Target calls, and FLOPs of both networks, per image, averaged over the images drawn so far.

        Each pass is counted as checking `lookahead` guesses plus one token, with the draft writing as many. Near the end
        fewer are left, so this slightly overestimates.
        """
        rows = 1 if self.sampling.guidance_scale == 1.0 else 2
        passes = self.acceptance.passes_per_image
        return rows * passes, rows * (1 + (passes - 1) * (self.lookahead + 1)) * self.step_flops

    @torch.no_grad()
    def __call__(self, labels: Int[Tensor, "batch"], image_ids: Int[Tensor, "batch"]) -> Int[Tensor, "batch positions"]:
        """Draw one grid per label. Raises UserError for labels out of range."""
        count, spare = self.target.model.num_tokens, self.lookahead + 1
        scale = self.sampling.guidance_scale
        target, draft = (Guided(decoder, len(labels), scale, spare) for decoder in (self.target, self.draft))
        # Columns from `count` on hold what is written past the end.
        tokens = torch.zeros(len(labels), count + spare + 1, dtype=torch.int64, device=labels.device)
        tokens[:, 0] = choose(target.start(labels)[:, 0], image_ids, 0, self.sampling)
        draft.start(labels)
        done = torch.ones_like(labels)  # tokens that each row has so far
        self.acceptance.images += len(labels)
        while int(done.min()) < count:
            ahead = min(self.lookahead, count - int(done.min()) - 1)
            self._guess(draft, tokens, done, image_ids, ahead)
            done = self._check(target, tokens, done, image_ids, ahead)
        return tokens[:, :count]

    def _guess(self, draft: Guided, tokens: Tensor, done: Tensor, image_ids: Tensor, ahead: int) -> None:
        """Write `ahead` tokens after those that are done."""
        # If all guesses of a pass were right, the last one has not been fed yet, so feed the newest two.
        new = 1 if int(done.min()) == 1 else 2
        for i in range(ahead):
            inputs = done[:, None] + torch.arange(i - new, i, device=done.device)
            draft.cache.move(draft.all_rows(inputs[:, 0] + 1))
            logits = draft.follow(tokens.gather(1, inputs))[:, -1]
            tokens.scatter_(1, (done + i)[:, None], self._choose(logits[:, None], image_ids, done + i))
            new = 1

    def _check(self, target: Guided, tokens: Tensor, done: Tensor, image_ids: Tensor, ahead: int) -> Tensor:
        """Replace guesses by the target's tokens up to and including the first that differs; return the new counts."""
        places = done[:, None] + torch.arange(ahead + 1, device=done.device)
        target.cache.move(target.all_rows(done))
        drawn = self._choose(target.follow(tokens.gather(1, places - 1)), image_ids, done)
        right = (drawn[:, :ahead] == tokens.gather(1, places[:, :ahead])).long().cumprod(1).sum(1)
        tokens.scatter_(1, places, drawn)
        end = self.target.model.num_tokens
        now = (done + right + 1).clamp(max=end)
        self._count(done, now, right, ahead)
        return now

    def _choose(self, logits: Tensor, image_ids: Tensor, first: Tensor) -> Tensor:
        """Draw (batch new) codes, the first of each row at its position `first`."""
        batch, new, _ = logits.shape
        positions = first[:, None] + torch.arange(new, device=first.device)
        ids = image_ids[:, None].expand(batch, new)
        return choose(logits.flatten(0, 1), ids.flatten(), positions.flatten(), self.sampling).view(batch, new)

    def _count(self, before: Tensor, now: Tensor, right: Tensor, ahead: int) -> None:
        counts = self.acceptance
        left = self.target.model.num_tokens - before
        room = left.clamp(max=ahead)
        counts.passes += int((left > 0).sum())
        counts.tokens += int((now - before).sum())
        counts.right += int(torch.minimum(right, room).sum())
        counts.guesses += int(torch.minimum(right + 1, room).sum())
