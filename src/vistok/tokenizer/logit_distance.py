"""TiTok's perceptual loss: how far apart an ImageNet classifier's logits are."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.nn.imagenet_colours import DEVIATION, MEAN
from vistok.tokenizer.torchvision_file import TorchvisionFile

CONVNEXT = TorchvisionFile(
    "ConvNeXt-S", "convnext_small-0c510722.pth", "losses.logits.file", "train without it: --set losses.logits=null"
)
# What torchvision's weights expect.
SIDE = 224


class LogitDistance(nn.Module):
    """The mean squared difference of ConvNeXt-S's 1,000 logits, of images resized to 224x224 (TiTok, arXiv 2406.07550, code).

    `state` holds torchvision's weights; with None, the network keeps its initial values, for counting.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, state: dict[str, Tensor] | None) -> None:
        super().__init__()
        from torchvision.models import convnext_small

        self.network = convnext_small(weights=None).eval().requires_grad_(False)
        if state is not None:
            CONVNEXT.fill(self.network, state)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(DEVIATION).view(3, 1, 1), persistent=False)

    def forward(self, a: Float[Tensor, "batch channels height width"], b: Tensor) -> Float[Tensor, ""]:
        """Return the mean distance between pairs of images in [-1, 1]; grey images are expanded to three channels."""
        with torch.no_grad():
            wanted = self._logits(b)
        return F.mse_loss(self._logits(a), wanted)

    def _logits(self, images: Tensor) -> Tensor:
        colour = (images.expand(-1, 3, -1, -1) + 1) / 2
        resized = F.interpolate(colour, size=(SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
        return self.network((resized - self.mean) / self.std)  # type: ignore[no-any-return]

    def train(self, mode: bool = True) -> "LogitDistance":
        """Stay in evaluation mode: ConvNeXt drops whole blocks while it trains."""
        return super().train(False)
