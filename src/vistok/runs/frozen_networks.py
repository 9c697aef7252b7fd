"""Build the frozen networks that a config asks for, and read the weights shipped with the package."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path

import torch
from torch import nn

from vistok.errors import UserError
from vistok.nn.classifier import Classifier
from vistok.nn.dinov2 import DINOv2, load_dinov2
from vistok.nn.efficientnet_lite import SHA256, EfficientNetLite0, load_efficientnet_lite0
from vistok.nn.flops import on_meta
from vistok.nn.frozen_config import SHIPPED
from vistok.nn.frozen_features import FrozenFeatures, features_of
from vistok.origin import Origin
from vistok.runs.headers import RunFacts
from vistok.runs.load import network_of, read_model
from vistok.tokenizer.config import LogitsConfig, LossConfig, PerceptualConfig
from vistok.tokenizer.logit_distance import CONVNEXT, LogitDistance
from vistok.tokenizer.perceptual import LPIPS, VGG, ClassifierPerceptual
from vistok.tokenizer.regularizers.config import AlignmentConfig, RegularizerConfig


def shipped_classifier(name: str) -> tuple[Classifier, dict[str, object]]:
    """Return a classifier shipped with the package, in evaluation mode, and its file's header."""
    resource = files("vistok") / "weights" / f"{name}.safetensors"
    if not resource.is_file():
        raise UserError(f"shipped weights {name!r} are missing from this installation; reinstall vistok")
    with as_file(resource) as path:
        return load_classifier_file(path)


@cache
def shipped_digest(name: str) -> str:
    """Return the digest of a shipped classifier's weights."""
    return str(shipped_classifier(name)[1]["digest"])


def load_classifier_file(path: Path) -> tuple[Classifier, dict[str, object]]:
    """Return the classifier in a run or an exported file, in evaluation mode, and the file's header.

    Raises UserError for another kind of network, and for a damaged file.
    """
    stored = read_model(path, "classifier")
    model = network_of(stored, path, "cpu")
    assert isinstance(model, Classifier)
    return model.requires_grad_(False), stored[1]


def build_distances(losses: LossConfig, device: torch.device) -> dict[str, nn.Module]:
    """Return the networks that compare images, by the name of their part in the losses; on the meta device without weights."""
    found: dict[str, nn.Module] = {}
    if losses.perceptual is not None and losses.perceptual.weight:
        found["perceptual"] = _perceptual(losses.perceptual, device)
    if losses.logits is not None and losses.logits.weight:
        found["logits"] = on_meta(lambda: LogitDistance(None)) if device.type == "meta" else _logits(losses.logits)
    return {name: network.to(device) for name, network in found.items()}


def _logits(config: LogitsConfig) -> nn.Module:
    return LogitDistance(CONVNEXT.load(config.file))


def _perceptual(config: PerceptualConfig, device: torch.device) -> nn.Module:
    if config.network == "imagenet":
        return ClassifierPerceptual(on_meta(EfficientNetLite0) if device.type == "meta" else load_efficientnet_lite0())
    if config.network != "lpips":
        return ClassifierPerceptual(shipped_classifier(f"{config.network}_perceptual")[0])
    if device.type == "meta":
        with device:
            return LPIPS(None)
    return LPIPS(VGG.load(config.vgg_file))


def build_features(regularizers: Sequence[RegularizerConfig], device: torch.device) -> dict[str, FrozenFeatures]:
    """Return the frozen networks that regularizers pull latents towards, by the regularizer's kind."""
    return {
        part.kind: frozen_features(part.features, part.features_file, device)
        for part in regularizers
        if isinstance(part, AlignmentConfig)
    }


def frozen_features(name: str, file: str | None, device: torch.device) -> FrozenFeatures:
    """Return a frozen network by name, DINOv2 from its file; on the meta device it has no weights, where that is possible."""
    if name == "dinov2":
        large = device.type == "meta" and file is None  # for counting, the one that VA-VAE uses
        dino = on_meta(lambda: DINOv2(1024, 24, 4096, 1370)) if large else load_dinov2(file)
        return features_of(dino).to(device)
    if name == "imagenet":
        return features_of(on_meta(EfficientNetLite0) if device.type == "meta" else load_efficientnet_lite0()).to(
            device
        )
    return features_of(shipped_classifier(SHIPPED[name])[0]).to(device)


def digests_in_losses(origin: Origin) -> set[str]:
    """Return the digests of the small frozen networks in a network's training losses and tokens; those of torchvision and DINOv2 are left out."""
    files: set[str] = set()
    for facts in RunFacts.all_of(origin):
        aligned = [*facts.regularizers, *([facts.generator.representation] if facts.generator.representation else [])]
        names = {*(part.features for part in aligned), facts.tokenizer.features} - {"", "dinov2"}
        files |= {SHIPPED.get(name, name) for name in names}
        perceptual = facts.losses.perceptual
        if perceptual is not None and perceptual.network != "lpips":
            files.add("imagenet" if perceptual.network == "imagenet" else f"{perceptual.network}_perceptual")
    return {SHA256 if name == "imagenet" else shipped_digest(name) for name in files}
