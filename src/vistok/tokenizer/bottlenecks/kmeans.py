"""Clusters of a frozen network's features as tokens: DiGIT (Zhu et al. 2024, arXiv 2410.12490, section 3.3).

The centres are found before training and are no parameters: `vistok.runs.fitting` fits them.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from vistok.nn.nearest import nearest_centres
from vistok.nn.precision import in_float32
from vistok.tokenizer.bottlenecks.base import BottleneckOutput, Quantizer
from vistok.tokenizer.bottlenecks.config import KMeansConfig
from vistok.tokenizer.noise import Noise


class KMeans(Quantizer):
    """The number of the nearest centre, by distance; the decoder gets the centre."""

    centres: Tensor

    def __init__(self, config: KMeansConfig) -> None:
        super().__init__()
        self.config = config
        self.codebook_size, self.code_dim = config.codebook_size, config.code_dim
        self.register_buffer("centres", torch.zeros(config.codebook_size, config.code_dim))

    def forward(self, z_e: Float[Tensor, "*batch dim"], noise: Noise | None = None) -> BottleneckOutput:
        """Return the nearest centres; nothing is learned here, so there are no losses."""
        with in_float32(z_e):
            features = z_e.float().detach()
            indices = self.codes_to_indices(features)
            centres = self.indices_to_codes(indices)
            error = (features - centres).square().sum(dim=-1).mean()
        return BottleneckOutput(features, centres, indices, {}, {"quantization_error": error})

    def indices_to_codes(self, indices: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """Return the centres with these numbers."""
        return F.embedding(indices, self.centres).float()

    def codes_to_indices(self, codes: Float[Tensor, "*batch dim"]) -> Int[Tensor, "*batch"]:
        """Return the number of the nearest centre; ties go to the lowest number."""
        return nearest_centres(codes.float().reshape(-1, self.code_dim), self.centres.float()).view(codes.shape[:-1])
