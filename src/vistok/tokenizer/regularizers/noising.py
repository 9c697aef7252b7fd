"""Latents that can be read through noise: l-DeTok's loss (Yang et al. 2025, arXiv 2507.15856).

The decoder also reconstructs images from their latents mixed with noise, as a generator will hand them over.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vistok.engine.phase import PhaseLoss
from vistok.errors import UserError
from vistok.space import Vectors
from vistok.tokenizer.noise import Noise
from vistok.tokenizer.regularizers.base import Regularizer, Seen, Setting
from vistok.tokenizer.regularizers.config import NoisingConfig


class NoisingRegularizer(Regularizer):
    """Adds the error of images that are decoded from noisy vectors."""

    name = "noising"
    config: NoisingConfig

    def __init__(self, config: NoisingConfig, facts: Setting) -> None:
        super().__init__()
        if not isinstance(facts.space, Vectors):
            raise UserError(f"noising is for vectors, but these latents are {facts.space}; leave it out")
        self.config, self.decode = config, facts.decode

    def forward(self, seen: Seen, step: int) -> PhaseLoss:
        """Return the weighted squared error of reconstructions from noisy vectors."""
        noisy = self.noisy(seen.bottleneck.decoded, seen.noise)
        error = F.mse_loss(self.decode(noisy, seen.layout).float(), seen.images)
        return PhaseLoss({"noising_loss": self.config.weight * error}, {"noising_error": error.detach()})

    def noisy(
        self, latents: Float[Tensor, "batch positions dim"], noise: Noise | None = None
    ) -> Float[Tensor, "batch positions dim"]:
        """Return (1 - tau) latents + tau strength noise, with tau drawn evenly from 0 to 1 for each image."""
        if noise is None:
            tau, normal = torch.rand(len(latents), device=latents.device), torch.randn_like(latents)
        else:
            tau, normal = noise.uniform("noising share"), noise.normal("noising", latents.shape[1:])
        return torch.lerp(latents, self.config.strength * normal, tau[:, None, None])
