"""The network with the ways of sampling it: token by token, and with a draft that writes ahead."""

import copy
from typing import Any

import torch

from vistok.errors import UserError
from vistok.generator.autoregressive.config import AutoregressiveSampling
from vistok.generator.autoregressive.frozen import FrozenTransformer
from vistok.generator.autoregressive.native import MOST
from vistok.generator.autoregressive.network import AutoregressiveNetwork
from vistok.generator.autoregressive.sampling import Ready, check_guidance, sample_tokens
from vistok.generator.autoregressive.speculative import SpeculativeSampler
from vistok.generator.autoregressive.stepwise import StepwiseTransformer
from vistok.generator.config import SamplingConfig
from vistok.generator.interface import Generator, Sampler
from vistok.nn.flops import count_flops

# Arrays of a row of logits that are there at once: as they are, in float32, filtered, sorted, noise.
LOGITS = 6


class AutoregressiveGenerator(AutoregressiveNetwork):
    """A transformer that writes token grids given a class."""

    def sampler(self, sampling: SamplingConfig) -> Sampler:
        """Return a function of labels and ids that draws tokens by these weights; make a new one where they change."""
        found = _own(sampling)
        self.check_guidance(found.guidance_scale)
        frozen = self._frozen(found)
        return lambda labels, image_ids: sample_tokens(frozen, labels, image_ids, found)

    def sped_up(self, sampling: SamplingConfig, draft: Generator, lookahead: int) -> Sampler:
        """Return a sampler of the same tokens: a smaller generator writes ahead, this one checks several at once."""
        if not isinstance(draft, AutoregressiveNetwork):
            raise UserError(f"the draft is {draft.config.kind}, and the generator autoregressive: they must be alike")
        found = _own(sampling)
        own, other = self._frozen(found), _frozen(draft, found)
        if not isinstance(own, FrozenTransformer) or not isinstance(other, FrozenTransformer):
            raise UserError("a draft needs blocks with softmax attention in both networks; leave --draft out")
        sampler = SpeculativeSampler(own, other, found, lookahead)
        sampler.step_flops = sum(_mean_step_flops(model) for model in (self, draft))
        return sampler

    def calls(self, sampling: SamplingConfig) -> int:
        """Return one pass for each token."""
        return self.num_tokens * rows_per_image(sampling.guidance_scale)

    def sampling_flops(self, sampling: SamplingConfig) -> float:
        """Return the FLOPs of all steps: they grow evenly with what each attends to, so that the ends tell."""
        return self.calls(sampling) * _mean_step_flops(self)

    def way_of(self, sampling: SamplingConfig, batch: int) -> str:
        """Return whether the step in C++ writes the tokens of such a batch."""
        rows = batch * rows_per_image(sampling.guidance_scale)
        return "C++ step" if rows <= MOST and self._frozen(_own(sampling)).native is not None else "torch's step"

    def sampling_bytes(self, sampling: SamplingConfig) -> int:
        """Return the cache's keys and values, and the logits with their noise and filters."""
        found, config = _own(sampling), self.config
        width = 2 if found.precision == "bfloat16" else 4
        cache = 2 * config.depth * self.num_tokens * config.width * width
        logits = LOGITS * self.codebook_size * 4
        return rows_per_image(found.guidance_scale) * (cache + logits)

    def _frozen(self, sampling: AutoregressiveSampling) -> Ready:
        return _frozen(self, sampling)

    def check_guidance(self, scale: float) -> None:
        """Raise UserError for guidance with a model trained without label dropout."""
        check_guidance(self, scale)


def rows_per_image(guidance_scale: float) -> int:
    """Return the rows that an image has in a batch: guidance asks for a second one, without its class."""
    return 1 if guidance_scale == 1.0 else 2


def _ready(model: AutoregressiveNetwork, int8: bool = False) -> Ready:
    """Return a model ready for writing: in fast layouts where its blocks are of the usual kind."""
    if model.is_plain:
        return FrozenTransformer(model, int8=int8)
    if int8:
        raise UserError("int8 is for blocks with softmax attention, and this generator has others: leave it out")
    return StepwiseTransformer(model)


def _frozen(model: AutoregressiveNetwork, sampling: AutoregressiveSampling) -> Ready:
    if sampling.precision == "bfloat16":
        model = copy.deepcopy(model).to(torch.bfloat16)
    return _ready(model, sampling.int8)


def _mean_step_flops(model: AutoregressiveNetwork) -> float:
    """Return the FLOPs of writing a token, averaged over places: the ends tell, as they grow evenly."""
    with torch.device("meta"):
        frozen = _ready(type(model)(model.config, model.space, model.num_classes))
    return sum(_step_flops(frozen, place) for place in (0, model.num_tokens - 1)) / 2


def _step_flops(frozen: Ready, place: int) -> float:
    """Return the FLOPs of writing the token at a place."""
    cache: Any = frozen.new_cache(1)
    cache.length = place
    x = torch.empty(1, 1, frozen.model.config.width, device="meta")
    return count_flops(lambda: frozen.logits(x, cache))


def _own(sampling: SamplingConfig) -> AutoregressiveSampling:
    if not isinstance(sampling, AutoregressiveSampling):
        raise UserError(f"an autoregressive generator is not sampled by a config of kind {sampling.kind!r}")
    return sampling
