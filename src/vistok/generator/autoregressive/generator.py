"""The network together with the ways to sample it: token by token, or with a draft that writes ahead."""

import copy
from typing import Any

import torch

from vistok.errors import UserError
from vistok.generator.autoregressive.config import AutoregressiveSampling
from vistok.generator.autoregressive.frozen import FrozenTransformer
from vistok.generator.autoregressive.native import MOST, library_for
from vistok.generator.autoregressive.network import AutoregressiveNetwork
from vistok.generator.autoregressive.sampling import Ready, sample_tokens
from vistok.generator.autoregressive.speculative import SpeculativeSampler
from vistok.generator.autoregressive.stepwise import StepwiseTransformer
from vistok.generator.conditioning import require_label_dropout
from vistok.generator.config import SamplingConfig
from vistok.generator.interface import Generator, Sampler
from vistok.nn.flops import count_flops
from vistok.nn.linear_kernels import Rounding

# Arrays the size of a row of logits that exist at the same time: raw, in float32, filtered, sorted, noise.
LOGITS = 6


class AutoregressiveGenerator(AutoregressiveNetwork):
    """A transformer that writes token grids for a given class."""

    def sampler(self, sampling: SamplingConfig) -> Sampler:
        """Return a function of labels and ids that draws tokens with these weights; make a new one if they change."""
        how = _checked(sampling)
        self.check_guidance(how.guidance_scale)
        frozen = self._frozen(how)
        return lambda labels, image_ids: sample_tokens(frozen, labels, image_ids, how)

    def sped_up(self, sampling: SamplingConfig, draft: Generator, lookahead: int) -> Sampler:
        """Return a sampler of the same tokens: a smaller generator writes ahead, this one checks several at once."""
        if not isinstance(draft, AutoregressiveNetwork):
            raise UserError(
                f"the draft is {draft.config.kind}, but the generator is autoregressive; use an autoregressive draft"
            )
        how = _checked(sampling)
        target, ahead = self._frozen(how), _frozen(draft, how)
        if not isinstance(target, FrozenTransformer) or not isinstance(ahead, FrozenTransformer):
            raise UserError("a draft needs blocks with softmax attention in both networks; leave out --draft")
        sampler = SpeculativeSampler(target, ahead, how, lookahead)
        sampler.step_flops = sum(_mean_step_flops(model) for model in (self, draft))
        return sampler

    def calls(self, sampling: SamplingConfig) -> int:
        """Return the number of forward passes for one image: one per token, doubled by guidance."""
        return self.num_tokens * rows_per_image(sampling.guidance_scale)

    def sampling_flops(self, sampling: SamplingConfig) -> float:
        """Return the FLOPs of all steps for one image, from the mean cost of a step."""
        return self.calls(sampling) * _mean_step_flops(self)

    def way_of(self, sampling: SamplingConfig, batch: int) -> str:
        """Return which step writes the tokens of a batch of this size: the one in C++, or torch's."""
        rows, how = batch * rows_per_image(sampling.guidance_scale), _checked(sampling)
        native = rows <= MOST and how.precision != "bfloat16" and library_for(self) is not None
        return "C++ step" if native else "torch's step"

    def sampling_bytes(self, sampling: SamplingConfig) -> int:
        """Return the bytes per image of the cache's keys and values, and of the logits with their noise and filters."""
        how, config = _checked(sampling), self.config
        width = 2 if how.precision == "bfloat16" else 4
        cache = 2 * config.depth * self.num_tokens * config.width * width
        logits = LOGITS * self.codebook_size * 4
        return rows_per_image(how.guidance_scale) * (cache + logits)

    def _frozen(self, sampling: AutoregressiveSampling) -> Ready:
        return _frozen(self, sampling)

    def check_guidance(self, scale: float) -> None:
        """Raise UserError for guidance with a model trained without label dropout."""
        require_label_dropout(self.config.label_dropout, scale)


def rows_per_image(guidance_scale: float) -> int:
    """Return how many rows an image takes in a batch: guidance needs a second one, without the class."""
    return 1 if guidance_scale == 1.0 else 2


def _ready(model: AutoregressiveNetwork, rounding: Rounding = "none") -> Ready:
    """Return a model prepared for writing tokens, in fast layouts if its blocks are of the usual kind."""
    if model.is_plain:
        return FrozenTransformer(model, rounding)
    if rounding != "none":
        name = "int8" if rounding == "int8" else "precision bfloat16-weights"
        raise UserError(f"{name} is for blocks with softmax attention, but this generator has others; leave out {name}")
    return StepwiseTransformer(model)


def _frozen(model: AutoregressiveNetwork, sampling: AutoregressiveSampling) -> Ready:
    if sampling.precision == "bfloat16":
        model = copy.deepcopy(model).to(torch.bfloat16)
    return _ready(model, sampling.rounding)


def _mean_step_flops(model: AutoregressiveNetwork) -> float:
    """Return the mean FLOPs of writing a token; they grow linearly with position, so first and last are enough."""
    with torch.device("meta"):
        frozen = _ready(type(model)(model.config, model.space, model.num_classes))
    return sum(_step_flops(frozen, place) for place in (0, model.num_tokens - 1)) / 2


def _step_flops(frozen: Ready, place: int) -> float:
    """Return the FLOPs of writing the token at a position."""
    cache: Any = frozen.new_cache(1)
    cache.length = place
    x = torch.empty(1, 1, frozen.model.config.width, device="meta")
    return count_flops(lambda: frozen.logits(x, cache))


def _checked(sampling: SamplingConfig) -> AutoregressiveSampling:
    if not isinstance(sampling, AutoregressiveSampling):
        raise UserError(f"an autoregressive generator cannot be sampled with a config of kind {sampling.kind!r}")
    return sampling
