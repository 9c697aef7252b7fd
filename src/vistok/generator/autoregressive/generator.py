"""The network with the ways of sampling it: token by token, and with a draft that writes ahead."""

from vistok.generator.autoregressive.config import SamplingConfig
from vistok.generator.autoregressive.frozen import FrozenTransformer
from vistok.generator.autoregressive.network import AutoregressiveNetwork
from vistok.generator.autoregressive.sampling import check_guidance, sample_tokens
from vistok.generator.interface import Sampler


class AutoregressiveGenerator(AutoregressiveNetwork):
    """A transformer that writes token grids given a class."""

    def sampler(self, sampling: SamplingConfig) -> Sampler:
        """Return a function of labels and ids that draws tokens by these weights; make a new one where they change."""
        check_guidance(self, sampling.guidance_scale)
        frozen = FrozenTransformer(self, int8=sampling.int8)
        return lambda labels, image_ids: sample_tokens(frozen, labels, image_ids, sampling)
