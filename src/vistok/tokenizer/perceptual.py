"""Perceptual distances: on small shipped networks or a small ImageNet network, and LPIPS on VGG-16."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.nn.classifier import Classifier
from vistok.nn.efficientnet_lite import EfficientNetLite0
from vistok.nn.folding import folded
from vistok.tokenizer.torchvision_file import TorchvisionFile

VGG = TorchvisionFile(
    "VGG-16", "vgg16-397923af.pth", "losses.perceptual.vgg_file", "train without LPIPS: --set losses.perceptual=null"
)


class ClassifierPerceptual(nn.Module):
    """LPIPS's formula on a small classifier: unit-norm stage activations, squared difference, mean.

    It has no learned heads, so every stage counts the same.
    """

    def __init__(self, classifier: Classifier | EfficientNetLite0) -> None:
        super().__init__()
        self.classifier = folded(classifier)

    def forward(self, a: Float[Tensor, "batch channels height width"], b: Tensor) -> Float[Tensor, ""]:
        """Return the mean distance between pairs of images in [-1, 1]."""
        with torch.no_grad():
            targets = self.classifier.stage_activations(b)
        distance = a.new_zeros(())
        for x, y in zip(self.classifier.stage_activations(a), targets, strict=True):
            distance = distance + (_unit(x) - _unit(y)).square().sum(dim=1).mean()
        return distance

    def train(self, mode: bool = True) -> "ClassifierPerceptual":
        """Stay in evaluation mode."""
        return super().train(False)


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=1, eps=1e-6)


class LPIPS(nn.Module):
    """LPIPS on VGG-16 (Zhang et al. 2018), with torchmetrics' learned heads.

    `vgg_state` holds torchvision's weights; with None, backbone and heads keep their initial values, for counting.
    """

    def __init__(self, vgg_state: dict[str, Tensor] | None) -> None:
        super().__init__()
        from torchmetrics.functional.image.lpips import _NoTrainLpips

        # pnet_rand: start with a random backbone, which the state below replaces.
        network = _NoTrainLpips(net="vgg", pretrained=vgg_state is not None, pnet_rand=True)
        self.network = network.eval().requires_grad_(False)
        if vgg_state is None:
            return
        for part in self.network.net.children():  # each a part of VGG-16's `features`, whose numbers it keeps
            VGG.fill(part, vgg_state, "features.")

    def forward(self, a: Float[Tensor, "batch channels height width"], b: Tensor) -> Float[Tensor, ""]:
        """Return the mean distance between pairs of images in [-1, 1]; grey images are expanded to three channels."""
        if a.shape[1] == 1:
            a, b = a.expand(-1, 3, -1, -1), b.expand(-1, 3, -1, -1)
        return self.network(a, b).mean()

    def train(self, mode: bool = True) -> "LPIPS":
        """Stay in evaluation mode."""
        return super().train(False)
