"""A discriminator of latents that begins as the first half of a flow generator: its blocks, then one number for an image."""

from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.generator.flow.config import FlowConfig
from vistok.generator.flow.network import FlowNetwork, FlowTrunk
from vistok.space import Vectors


class FlowDiscriminator(nn.Module):
    """The logit that an image's latents are real, given the time of the input that they were predicted from, and the class."""

    def __init__(self, teacher: FlowConfig, space: Vectors, num_classes: int) -> None:
        super().__init__()
        config = teacher.replace(
            depth=max(1, teacher.depth // 2), inputs=(), shortened=None, label_dropout=0.0, representation=None
        )
        self.trunk = FlowTrunk(config, space, num_classes)
        self.head = PooledLogit(config.width)

    def begin_as(self, teacher: FlowNetwork) -> None:
        """Take the weights of the teacher's first blocks."""
        state = teacher.state_dict()
        self.trunk.load_state_dict({name: state[name] for name in self.trunk.state_dict()})

    def forward(
        self, data: Float[Tensor, "batch positions dim"], t: Float[Tensor, "batch"], labels: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch"]:
        """Return logits."""
        condition = self.trunk.condition(t, labels, {})
        return self.head(self.trunk.through_blocks(data, condition, 0)[0])


class PooledLogit(nn.Module):
    """Positions pooled by how much each counts, then two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.weigh, self.inner, self.out = nn.Linear(width, 1), nn.Linear(width, width // 2), nn.Linear(width // 2, 1)

    def forward(self, h: Float[Tensor, "batch patches width"]) -> Float[Tensor, "batch"]:
        """Return a number for each image."""
        h = F.silu(self.norm(h))
        pooled = (self.weigh(h).softmax(dim=1) * h).sum(dim=1)
        return self.out(F.silu(self.inner(pooled)))[:, 0]
