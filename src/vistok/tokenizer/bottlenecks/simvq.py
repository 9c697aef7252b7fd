"""A frozen random codebook seen through one learned linear map: SimVQ (Zhu et al. 2024, arXiv 2411.02038).

In a learned codebook only the chosen codes get a gradient, so those that are never chosen stay behind and die. Here every
choice moves the map, and with it all codes.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.nn.precision import in_float32
from vistok.tokenizer.bottlenecks.base import BottleneckOutput, Quantizer
from vistok.tokenizer.bottlenecks.config import SimVQConfig
from vistok.tokenizer.bottlenecks.vq import nearest_by_distance, quantized
from vistok.tokenizer.noise import Noise


class SimVQ(Quantizer):
    """Codes are the rows of a fixed normal matrix, mapped; latents take the nearest one by distance."""

    frozen: Tensor

    def __init__(self, config: SimVQConfig) -> None:
        super().__init__()
        self.config = config
        self.codebook_size, self.code_dim = config.codebook_size, config.code_dim
        # Kept with the weights, since other versions of torch may draw other numbers from a seed.
        self.register_buffer("frozen", torch.randn(config.codebook_size, config.code_dim) / config.code_dim**0.5)
        # A parameter, not a layer: like a codebook, it does not decay.
        self.map = nn.Parameter(torch.empty(config.code_dim, config.code_dim))
        nn.init.kaiming_uniform_(self.map, a=5**0.5)

    def codebook(self) -> Float[Tensor, "codes dim"]:
        """Return all codes as they are now."""
        return F.linear(self.frozen, self.map)

    def forward(self, z_e: Float[Tensor, "*batch dim"], noise: Noise | None = None) -> BottleneckOutput:
        """Quantize, with the losses of VQ; the codebook loss trains the map."""
        with in_float32(z_e):
            return quantized(self, z_e.float(), self.config.commitment_weight)

    def indices_to_codes(self, indices: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """Return mapped codes: only those asked for are mapped."""
        return F.linear(F.embedding(indices, self.frozen), self.map).float()

    @torch.no_grad()
    def codes_to_indices(self, codes: Float[Tensor, "*batch dim"]) -> Int[Tensor, "*batch"]:
        """Return the number of the code at the least distance."""
        vectors = codes.float().reshape(-1, self.code_dim)
        return nearest_by_distance(vectors, self.codebook().float()).view(codes.shape[:-1])
