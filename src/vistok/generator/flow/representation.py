"""Alignment of an inner layer with a frozen network's features: REPA (Yu et al. 2024, arXiv 2410.06940, section 3)."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.generator.flow.config import RepresentationConfig


class Projector(nn.Module):
    """Maps a layer's output to the features' numbers. Trained beside the generator, and not exported."""

    def __init__(self, config: RepresentationConfig, width: int, dim: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(width, config.projector), nn.Linear(config.projector, config.projector)
        self.last = nn.Linear(config.projector, dim)

    def forward(self, inner: Float[Tensor, "batch patches width"]) -> Float[Tensor, "batch patches dim"]:
        """Project each position."""
        return self.last(F.silu(self.second(F.silu(self.first(inner)))))


def gap(
    projected: Float[Tensor, "batch patches dim"], features: Float[Tensor, "batch patches dim"]
) -> Float[Tensor, ""]:
    """Return one minus the mean cosine between projections and features."""
    return 1 - F.cosine_similarity(projected.float(), features, dim=-1).mean()
