"""The PatchGAN discriminator and its hinge losses (pix2pix; CRT paper A.1)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.tokenizer.config import AdversarialConfig


class PatchDiscriminator(nn.Module):
    """Maps images to a grid of logits, one per overlapping patch.

    Uses group norm instead of pix2pix's batch norm, so that results do not depend on how a batch is split into
    micro-batches or among processes.
    """

    def __init__(self, config: AdversarialConfig, in_channels: int) -> None:
        super().__init__()
        channels = config.channels
        layers: list[nn.Module] = [nn.Conv2d(in_channels, channels, 4, 2, 1), nn.LeakyReLU(0.2)]
        for i, out_channels in enumerate(config.widths, 1):
            stride = 2 if i < config.num_layers else 1
            layers += [
                nn.Conv2d(channels, out_channels, 4, stride, 1, bias=False),
                nn.GroupNorm(min(8, out_channels), out_channels),
                nn.LeakyReLU(0.2),
            ]
            channels = out_channels
        layers.append(nn.Conv2d(channels, 1, 4, 1, 1))
        self.layers = nn.Sequential(*layers)
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.02)

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch 1 rows columns"]:
        """Return patch logits; above zero means real."""
        return self.layers(images)


def hinge_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Float[Tensor, ""]:
    """Return half of relu(1 - real) + relu(1 + fake), averaged over patches: 1.0 at chance level."""
    return 0.5 * (F.relu(1.0 - real_logits).mean() + F.relu(1.0 + fake_logits).mean())


def adversarial_loss(fake_logits: Tensor) -> Float[Tensor, ""]:
    """Return the tokenizer's side of the game: minus the mean logit of its reconstructions."""
    return -torch.mean(fake_logits)
