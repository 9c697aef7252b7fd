"""Perceptual distances: on small shipped networks, on a small ImageNet network, and LPIPS on VGG-16."""

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
    """LPIPS's form on a small classifier: unit-norm stage activations, squared difference, mean.

    No learned heads: every stage counts the same.
    """

    def __init__(self, classifier: Classifier | EfficientNetLite0) -> None:
        super().__init__()
        self.classifier = classifier.eval().requires_grad_(False)

    def forward(self, a: Float[Tensor, "batch channels height width"], b: Tensor) -> Float[Tensor, ""]:
        """Return the mean distance of pairs of images in [-1, 1]."""
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

    `vgg_state` holds torchvision's weights; None leaves backbone and heads as they are made, for counting.
    """

    def __init__(self, vgg_state: dict[str, Tensor] | None) -> None:
        super().__init__()
        from torchmetrics.functional.image.lpips import _NoTrainLpips

        # pnet_rand: an empty backbone, which the state below fills.
        network = _NoTrainLpips(net="vgg", pretrained=vgg_state is not None, pnet_rand=True)
        self.network = network.eval().requires_grad_(False)
        if vgg_state is None:
            return
        backbone = self.network.net
        names = {name: "features." + name.split(".", 1)[1] for name in backbone.state_dict()}
        for name, own in backbone.state_dict().items():
            _require_like(vgg_state, names[name], own)
        backbone.load_state_dict({name: vgg_state[old] for name, old in names.items()})

    def forward(self, a: Float[Tensor, "batch channels height width"], b: Tensor) -> Float[Tensor, ""]:
        """Return the mean distance of pairs of images in [-1, 1]; grey images are repeated to three channels."""
        if a.shape[1] == 1:
            a, b = a.expand(-1, 3, -1, -1), b.expand(-1, 3, -1, -1)
        return self.network(a, b).mean()

    def train(self, mode: bool = True) -> "LPIPS":
        """Stay in evaluation mode."""
        return super().train(False)


def _require_like(vgg_state: dict[str, Tensor], name: str, own: Tensor) -> None:
    """Raise UserError where a tensor is missing, or is not one of VGG-16's."""
    found = vgg_state.get(name) if isinstance(vgg_state, dict) else None
    if not isinstance(found, Tensor):
        wrong = "is missing"
    elif found.shape != own.shape:
        wrong = f"is {tuple(found.shape)} in place of {tuple(own.shape)}"
    elif not found.is_floating_point() or not bool(torch.isfinite(found).all()):
        wrong = "holds NaN, infinity or no floats"
    else:
        return
    raise UserError(f"VGG-16 weights: {name!r} {wrong}; give torchvision's {VGG_FILE}")


def load_vgg(file: str | None) -> dict[str, Tensor]:
    """Return torchvision's VGG-16 weights from a file, its cache, or its download (tensors only).

    Raises UserError where there are none, with what to do.
    """
    if file is not None:
        refuse_program(Path(file), "VGG-16 weights")
    try:
        if file is not None:
            return torch.load(Path(file), map_location="cpu", weights_only=True)
        return torch.hub.load_state_dict_from_url(VGG_URL, map_location="cpu", progress=False, weights_only=True)
    except Exception as error:  # torch raises many kinds here; each means: no weights
        raise UserError(
            f"LPIPS needs torchvision's VGG-16 weights ({VGG_FILE}), and they cannot be read "
            f"({type(error).__name__}: {error}). Put the file into {torch.hub.get_dir()}/checkpoints, or name it with "
            "--set losses.perceptual.vgg_file=PATH, or train without: --set losses.perceptual=null"
        ) from None
