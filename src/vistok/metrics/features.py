"""Feature extractors: uint8 images to vectors, with a name and a digest that protocols record."""

import hashlib
import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vistok.errors import UserError
from vistok.nn.classifier import Classifier

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"


class FeatureExtractor(ABC):
    """Images to features. `distance_name` is what a Fréchet distance in its space is called."""

    name: str
    digest: str
    distance_name: str
    resize: str

    @abstractmethod
    def __call__(self, images: UInt8[Tensor, "batch channels height width"]) -> Float[Tensor, "batch features"]:
        """Return features, in evaluation mode and float32."""


class ClassifierFeatures(FeatureExtractor):
    """Features of a small classifier, before its last ReLU. Distances are called FMD, never FID."""

    distance_name = "FMD"

    def __init__(self, classifier: Classifier, name: str, digest: str) -> None:
        self.classifier = classifier.eval().requires_grad_(False).to(memory_format=torch.channels_last)
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
                f"{tuple(images.shape[1:])}; use an evaluator that was trained at this size"
            )
        device = next(self.classifier.parameters()).device
        return self.classifier.features(images.to(device).float() / 127.5 - 1.0).cpu()


class InceptionFeatures(FeatureExtractor):
    """The 2,048 pool features of the FID Inception, by torch-fidelity; grey images are repeated to RGB."""

    distance_name = "FID"
    name = "inception-v3-compat (torch-fidelity)"
    resize = "299x299 bilinear, TensorFlow 1 compatible"

    def __init__(self, file: Path) -> None:
        self.digest = hashlib.sha256(file.read_bytes()).hexdigest()
        self.network = _inception(file)

    @torch.inference_mode()
    def __call__(self, images: UInt8[Tensor, "batch channels height width"]) -> Float[Tensor, "batch features"]:
        """Return pool features of uint8 images of any size."""
        (features,) = self.network(images.expand(-1, 3, -1, -1))
        return features.float().cpu()


def find_inception(file: str | None = None) -> Path | None:
    """Return torch-fidelity's Inception weights: the given file, or its download cache; None where absent."""
    path = Path(file) if file else Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    if path.is_file():
        return path
    if file:
        raise UserError(f"Inception weights {file}: not found; give torch-fidelity's {INCEPTION_FILE}")
    return None


def _inception(file: Path) -> Any:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # torch-fidelity loads with weights_only=False; this makes torch refuse anything but tensors.
    before = os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    try:
        network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], feature_extractor_weights_path=str(file))
    except Exception as error:  # unpickling and mismatches raise many kinds; each means: not these weights
        raise UserError(f"Inception weights {file}: cannot be loaded ({str(error).splitlines()[0]})") from None
    finally:
        os.environ.pop("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
        if before is not None:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = before
    return network.eval()
