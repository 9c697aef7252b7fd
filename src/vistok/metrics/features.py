"""Feature extractors: uint8 images to vectors, with the name and digest that protocols record."""

import hashlib
import os
import pickle
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.errors import UserError, reason
from vistok.nn import efficientnet_lite
from vistok.nn.classifier import Classifier
from vistok.nn.folding import folded
from vistok.pickled_file import read_tensors

SPATIAL_CHANNELS = 7
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"


@dataclass(frozen=True)
class Features:
    """Features of a batch; only Inception has `spatial` and `logits`."""

    pooled: Tensor
    spatial: Tensor | None = None
    logits: Tensor | None = None


class FeatureExtractor(ABC):
    """Maps images to features. Fréchet distances between them are called `distance_name`, kernel distances `kernel_name`."""

    name: str
    digest: str
    distance_name: str
    kernel_name: str
    resize: str
    num_features: int

    @abstractmethod
    def __call__(self, images: UInt8[Tensor, "batch channels height width"]) -> Float[Tensor, "batch features"]:
        """Return features in float32, computed in evaluation mode."""

    def everything(self, images: UInt8[Tensor, "batch channels height width"]) -> Features:
        """Return all features that any score of these images needs, from a single forward pass."""
        return Features(self(images))


class ClassifierFeatures(FeatureExtractor):
    """Features of a small classifier, taken before its last ReLU. Distances are called FMD and KMD, never FID and KID."""

    distance_name, kernel_name = "FMD", "KMD"

    def __init__(self, classifier: Classifier, name: str, digest: str) -> None:
        self.classifier = folded(classifier)
        self.num_features = classifier.config.feature_dim
        self.name, self.digest = name, digest
        size = classifier.config.image_size
        self.resize = f"none ({size}x{size} needed)"

    @torch.inference_mode()
    def __call__(self, images: UInt8[Tensor, "batch channels height width"]) -> Float[Tensor, "batch features"]:
        """Return features; raises UserError for images of another size or channel count."""
        config = self.classifier.config
        expected = (config.in_channels, config.image_size, config.image_size)
        if tuple(images.shape[1:]) != expected:
            raise UserError(
                f"evaluator {self.name} takes images (channels, height, width) {expected}, found "
                f"{tuple(images.shape[1:])}; use an evaluator trained at this size"
            )
        device = next(self.classifier.parameters()).device
        return _finite(self.classifier.features(images.to(device).float() / 127.5 - 1.0).cpu(), self.name)


class ImageNetFeatures(FeatureExtractor):
    """Features of EfficientNet-Lite0, from a Python package: 1,280 numbers per image, for images of any size and kind."""

    distance_name, kernel_name = "FMD", "KMD"
    num_features = 1280
    name, digest, resize = "efficientnet-lite0", efficientnet_lite.SHA256, "128x128 bicubic, antialiased"

    def __init__(self, device: torch.device) -> None:
        self.network = folded(efficientnet_lite.load_efficientnet_lite0()).to(device)
        self.device = device

    @torch.inference_mode()
    def __call__(self, images: UInt8[Tensor, "batch channels height width"]) -> Float[Tensor, "batch features"]:
        """Return features of uint8 images of any size; grey images are repeated to RGB."""
        scaled = images.to(self.device).float() / 127.5 - 1.0
        if scaled.shape[2:] != (128, 128):
            scaled = F.interpolate(scaled, size=(128, 128), mode="bicubic", antialias=True).clamp(-1, 1)
        return _finite(self.network.features(scaled).cpu(), self.name)


class InceptionFeatures(FeatureExtractor):
    """The Inception network of FID, from torch-fidelity: 2,048 pooled features; grey images are repeated to RGB.

    It also gives the logits without bias, for the Inception score, and the first seven channels of the 1x1 branch of
    mixed_6 at 17x17 places, for sFID, as in ADM's evaluator.
    """

    distance_name, kernel_name = "FID", "KID"
    num_features, num_spatial = 2048, SPATIAL_CHANNELS * 17 * 17
    name = "inception-v3-compat (torch-fidelity)"
    resize = "299x299 bilinear, TensorFlow 1 compatible"

    def __init__(self, file: Path, device: torch.device | None = None) -> None:
        self.digest = hashlib.sha256(file.read_bytes()).hexdigest()
        self.network = _inception(file).to(device or torch.device("cpu"))
        self._branch: Tensor | None = None
        self.network.Mixed_6d.branch1x1.register_forward_hook(self._keep)

    @torch.inference_mode()
    def __call__(self, images: UInt8[Tensor, "batch channels height width"]) -> Float[Tensor, "batch features"]:
        """Return pooled features of uint8 images of any size."""
        return self.everything(images).pooled

    @torch.inference_mode()
    def everything(self, images: UInt8[Tensor, "batch channels height width"]) -> Features:
        """Return pooled features, spatial features and logits of uint8 images of any size."""
        device = next(self.network.parameters()).device
        pooled, logits = self.network(images.to(device).expand(-1, 3, -1, -1))
        assert self._branch is not None
        # Rows, columns, channels: the order in ADM's evaluator, and so in mu_s and sigma_s of its reference files.
        spatial = self._branch[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)
        self._branch = None
        return Features(*(_finite(part.float().cpu(), self.name) for part in (pooled, spatial, logits)))

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self._branch = output


def _finite(features: Tensor, name: str) -> Tensor:
    """Return the features; raises UserError where some are not finite, since they would spoil every score."""
    if not bool(features.isfinite().all()):
        raise UserError(
            f"evaluator {name} produces features that are not finite numbers: its weights are damaged. Copy or train it again, "
            "or use another evaluator"
        )
    return features


def find_inception(file: str | None = None) -> Path | None:
    """Return torch-fidelity's Inception weights: the given file, or the one in torch's download cache, or None."""
    path = Path(file) if file else Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    if path.is_file():
        return path
    if file:
        raise UserError(f"Inception weights {file}: not found; give torch-fidelity's {INCEPTION_FILE}")
    return None


def require_inception(file: str | None = None) -> Path:
    """Return torch-fidelity's Inception weights; raises UserError where this machine does not have them."""
    weights = find_inception(file)
    if weights is None:
        raise UserError(
            f"torch-fidelity's Inception weights ({INCEPTION_FILE}) are not on this machine: put the file into "
            f"{torch.hub.get_dir()}/checkpoints, or pass it with --inception FILE"
        )
    return weights


def _inception(file: Path) -> Any:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # Before torch reads it, whose own messages advise to load unsafely what it refuses.
    read_tensors(file, "Inception weights", f"give torch-fidelity's {INCEPTION_FILE}")
    # torch-fidelity loads with weights_only=False; this variable makes torch refuse anything but tensors.
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        network = FeatureExtractorInceptionV3(
            "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(file)
        )
    except (
        Exception
    ) as error:  # unpickling and mismatches raise many kinds; each means that these are the wrong weights
        why = "it holds other things than tensors" if isinstance(error, pickle.UnpicklingError) else reason(error)
        raise UserError(f"Inception weights {file}: cannot be loaded ({why})") from None
    finally:
        os.environ.pop("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
        if before is not None:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before
    return network.eval()
