"""Which network scores which images; reference features, computed once per process."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vistok.data.config import DataConfig
from vistok.data.loader import eval_images
from vistok.data.sources import ImageSource
from vistok.data.transforms import to_uint8
from vistok.errors import UserError
from vistok.metrics.features import ClassifierFeatures, FeatureExtractor, InceptionFeatures, find_inception
from vistok.tasks.load import weights_file
from vistok.tasks.perceptual import load_classifier_file, shipped_classifier

BATCH = 500


def choose_evaluator(data: DataConfig, evaluator: str | None = None, inception: str | None = None) -> FeatureExtractor:
    """Return the network that scores images of this data set.

    Fashion-MNIST: the shipped classifier ("2" for the one of another seed). Others: `evaluator`, a
    classifier run or its exported file, else Inception where its weights are. Raises UserError where
    there is none, and says how to make one.
    """
    if data.dataset == "fashion_mnist" and evaluator in (None, "1", "2"):
        name = "fashion_evaluator" if evaluator != "2" else "fashion_evaluator_2"
        model, header = shipped_classifier(name)
        return ClassifierFeatures(model, name, str(header["digest"]))
    if evaluator is not None:
        model, header = load_classifier_file(weights_file(evaluator))
        return ClassifierFeatures(model, str(header["recipe"]), str(header["digest"]))
    file = find_inception(inception)
    if file is not None:
        return InceptionFeatures(file)
    raise UserError(
        "no evaluator for these images: torch-fidelity's Inception weights are not on this machine. Give their file "
        "with --inception FILE, or train a classifier on your classes and name it: "
        "vistok train classifier images64_evaluator --data FOLDER, then --evaluator RUN"
    )


def require_unseen(extractor: FeatureExtractor, perceptual_digest: str | None) -> None:
    """Raise UserError where the evaluator was part of the training loss: it would score itself."""
    if perceptual_digest is not None and extractor.digest == perceptual_digest:
        raise UserError(
            f"evaluator {extractor.name} is the network of this tokenizer's perceptual loss and must not score it; "
            "use another evaluator"
        )


@dataclass(frozen=True)
class ReferenceSet:
    """Features of real images, with what a protocol says of them."""

    name: str
    digest: str
    features: np.ndarray


_references: dict[tuple[str, str, str], ReferenceSet] = {}


def reference_set(extractor: FeatureExtractor, source: ImageSource, data: DataConfig, name: str) -> ReferenceSet:
    """Return the features of all images of a source, with a digest of their uint8 pixels."""
    key = (extractor.digest, source.digest, name)
    if key not in _references:
        digest = hashlib.sha256()
        features = []
        for batch in eval_images(source, data, BATCH):
            images = to_uint8(batch["images"])
            digest.update(images.numpy().tobytes())
            features.append(extractor(images))
        label = f"{data.dataset} {name}, {len(source)} images"
        _references[key] = ReferenceSet(label, digest.hexdigest(), torch.cat(features).numpy())
    return _references[key]


def evaluation_file(run: Path, name: str) -> Path:
    """Return where a run keeps an evaluation."""
    return run / "evaluations" / f"{name}.json"
