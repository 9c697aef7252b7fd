"""Perceptual distances: on small shipped networks or a small ImageNet network, and LPIPS on VGG-16."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.errors import UserError
from vistok.nn.classifier import Classifier
from vistok.nn.efficientnet_lite import EfficientNetLite0
from vistok.torch_files import refuse_program

VGG_FILE = "vgg16-397923af.pth"
VGG_URL = f"https://download.pytorch.org/models/{VGG_FILE}"


class ClassifierPerceptual(nn.Module):
    """LPIPS's formula on a small classifier: unit-norm stage activations, squared difference, mean.

    It has no learned heads, so every stage counts the same.
    """

    def __init__(self, classifier: Classifier | EfficientNetLite0) -> None:
        super().__init__()
        self.classifier = classifier.eval().requires_grad_(False)

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
        backbone = self.network.net
        names = {name: "features." + name.split(".", 1)[1] for name in backbone.state_dict()}
        for name, expected in backbone.state_dict().items():
            _require_like(vgg_state, names[name], expected)
        backbone.load_state_dict({name: vgg_state[old] for name, old in names.items()})

    def forward(self, a: Float[Tensor, "batch channels height width"], b: Tensor) -> Float[Tensor, ""]:
        """Return the mean distance between pairs of images in [-1, 1]; grey images are expanded to three channels."""
        if a.shape[1] == 1:
            a, b = a.expand(-1, 3, -1, -1), b.expand(-1, 3, -1, -1)
        return self.network(a, b).mean()

    def train(self, mode: bool = True) -> "LPIPS":
        """Stay in evaluation mode."""
        return super().train(False)


def _require_like(vgg_state: dict[str, Tensor], name: str, expected: Tensor) -> None:
    """Raise UserError if a tensor is missing or cannot be VGG-16's."""
    weight = vgg_state.get(name) if isinstance(vgg_state, dict) else None
    if not isinstance(weight, Tensor):
        wrong = "is missing"
    elif weight.shape != expected.shape:
        wrong = f"is {tuple(weight.shape)} instead of {tuple(expected.shape)}"
    elif not weight.is_floating_point() or not bool(torch.isfinite(weight).all()):
        wrong = "holds NaN, infinity or integers"
    else:
        return
    raise UserError(f"VGG-16 weights: {name!r} {wrong}; use torchvision's {VGG_FILE}")


def load_vgg(file: str | None) -> dict[str, Tensor]:
    """Return torchvision's VGG-16 weights from a file, torchvision's cache or its download (tensors only).

    Raises UserError with advice if they are not to be found.
    """
    if file is not None:
        refuse_program(Path(file), "VGG-16 weights")
    try:
        if file is not None:
            return torch.load(Path(file), map_location="cpu", weights_only=True)
        return torch.hub.load_state_dict_from_url(VGG_URL, map_location="cpu", progress=False, weights_only=True)
    except Exception as error:  # torch raises many kinds here; all of them mean that there are no weights
        raise UserError(
            f"LPIPS needs torchvision's VGG-16 weights ({VGG_FILE}), but they cannot be read "
            f"({type(error).__name__}: {error}). Put the file into {torch.hub.get_dir()}/checkpoints, or give its path with "
            "--set losses.perceptual.vgg_file=PATH, or train without LPIPS: --set losses.perceptual=null"
        ) from None
