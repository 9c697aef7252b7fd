"""Alignment with a frozen vision network: VA-VAE's loss (Yao et al. 2025, arXiv 2501.01423, section 3.2).

Two terms: each latent, projected, points where the network's feature points; and latents resemble each other as
features do. Both leave a margin, so that latents keep what the network does not know.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.engine.phase import PhaseLoss
from vistok.errors import UserError
from vistok.nn.precision import in_float32
from vistok.space import Grid
from vistok.tokenizer.losses import norm_ratio
from vistok.tokenizer.regularizers.base import Regularizer, Seen, Setting
from vistok.tokenizer.regularizers.config import AlignmentConfig


class AlignmentRegularizer(Regularizer):
    """Pulls what the decoder gets (of vectors a draw, of integers the codes) towards frozen features."""

    name = "alignment"
    config: AlignmentConfig

    def __init__(self, config: AlignmentConfig, facts: Setting) -> None:
        super().__init__()
        self.config, self.average = config, facts.average
        if not isinstance(facts.layout, Grid):
            raise UserError(f"alignment needs latents on a grid, but these lie on {facts.layout}; leave it out")
        assert facts.features is not None
        self.sides = facts.layout.sides
        # Not a submodule: it is neither trained, nor checkpointed, nor counted.
        self._features = [facts.features]
        self.projection = nn.Linear(facts.dim, facts.features.dim, bias=False)

    def forward(self, seen: Seen, step: int) -> PhaseLoss:
        """Return the weighted sum of both terms, and each of them."""
        features = self._features[0](seen.images, *self.sides)
        cosine, distance = self.parts(seen.bottleneck.decoded, features)
        total = self.config.cosine_weight * cosine + self.config.distance_weight * distance
        weight = torch.full_like(total.detach(), self.config.weight)
        if self.config.adaptive:
            weight = weight * norm_ratio(seen.reconstruction_loss, total, seen.encoding_layer, self.average)
        statistics = {"cosine_gap": cosine.detach(), "distance_gap": distance.detach(), "alignment_weight": weight}
        return PhaseLoss({"alignment_loss": weight * total}, statistics)

    def parts(
        self, latents: Float[Tensor, "batch positions dim"], features: Float[Tensor, "batch positions features"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Return the marginal cosine loss and the marginal distance-matrix loss, both of projected latents.

        The paper compares the distances of latents as they are; its released code, and so we, those of projected ones.
        """
        with in_float32(latents):
            projected = F.normalize(self.projection(latents.float()), dim=-1)
            features = F.normalize(features.float(), dim=-1)
            apart = 1 - self.config.cosine_margin - (projected * features).sum(-1)
            differ = (projected @ projected.mT - features @ features.mT).abs() - self.config.distance_margin
        return F.relu(apart).mean(), F.relu(differ).mean()
