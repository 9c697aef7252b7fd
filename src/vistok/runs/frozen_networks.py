"""Build the perceptual network that a config asks for, and read the weights shipped with the package."""

from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

import torch
from torch import nn

from vistok.errors import UserError
from vistok.nn.classifier import Classifier
from vistok.nn.efficientnet_lite import SHA256, EfficientNetLite0, load_efficientnet_lite0
from vistok.nn.flops import on_meta
from vistok.origin import Origin
from vistok.runs.headers import RunFacts
from vistok.runs.load import network_of, read_model
from vistok.tokenizer.config import PerceptualConfig
from vistok.tokenizer.perceptual import LPIPS, ClassifierPerceptual, load_vgg


def shipped_classifier(name: str) -> tuple[Classifier, dict[str, object]]:
    """Return a classifier shipped with the package, in evaluation mode, and its file's header."""
    resource = files("vistok") / "weights" / f"{name}.safetensors"
    if not resource.is_file():
        raise UserError(f"shipped weights {name!r} are missing from this installation; reinstall vistok")
    with as_file(resource) as path:
        return load_classifier_file(path)


@cache
def _shipped_digest(name: str) -> str:
    return str(shipped_classifier(name)[1]["digest"])


def load_classifier_file(path: Path) -> tuple[Classifier, dict[str, object]]:
    """Return the classifier in a run or an exported file, in evaluation mode, and the file's header.

    Raises UserError for another kind of network, and for a damaged file.
    """
    stored = read_model(path, "classifier")
    model = network_of(stored, path, "cpu")
    assert isinstance(model, Classifier)
    return model.requires_grad_(False), stored[1]


def build_perceptual(config: PerceptualConfig | None, device: torch.device) -> nn.Module | None:
    """Return the perceptual distance, or None if the config has none; on the meta device it has no weights."""
    if config is None or config.weight == 0:
        return None
    if config.network == "imagenet":
        return ClassifierPerceptual(
            on_meta(EfficientNetLite0) if device.type == "meta" else load_efficientnet_lite0()
        ).to(device)
    if config.network != "lpips":
        return ClassifierPerceptual(shipped_classifier(f"{config.network}_perceptual")[0]).to(device)
    if device.type == "meta":
        with device:
            return LPIPS(None).to(device)
    return LPIPS(load_vgg(config.vgg_file)).to(device)


def perceptual_digest(origin: Origin) -> str | None:
    """Return the digest of the small perceptual network in a tokenizer's training loss; None for LPIPS or none."""
    perceptual = RunFacts.of(origin).losses.perceptual
    if perceptual is None or perceptual.network == "lpips":
        return None
    if perceptual.network == "imagenet":
        return SHA256
    return _shipped_digest(f"{perceptual.network}_perceptual")
