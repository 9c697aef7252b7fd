"""Which network scores which images; reference features, computed once per process; where scores are kept."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vistok.data.config import DataConfig
from vistok.data.loader import eval_images
from vistok.data.sources import ImageSource
from vistok.data.transforms import to_uint8
from vistok.engine.run_dir import RunDir
from vistok.errors import UserError
from vistok.metrics.features import ClassifierFeatures, FeatureExtractor, InceptionFeatures, find_inception
from vistok.metrics.interval import Replicates
from vistok.metrics.protocol import FRECHET, Protocol, Score, Treatment
from vistok.tasks.load import weights_file
from vistok.tasks.perceptual import load_classifier_file, shipped_classifier

BATCH = 500
# By data set and --evaluator.
SHIPPED = {
    ("fashion_mnist", None): "fashion_evaluator",
    ("fashion_mnist", "1"): "fashion_evaluator",
    ("fashion_mnist", "2"): "fashion_evaluator_2",
    ("openmoji", None): "openmoji_evaluator",
}
# Of all evaluation files: a change of what is measured, or how, makes them anew.
SCHEMA = 2


def choose_evaluator(
    data: DataConfig,
    evaluator: str | None = None,
    inception: str | None = None,
    class_names: Sequence[str] | None = None,
) -> FeatureExtractor:
    """Return the network that scores images of this data set.

    Fashion-MNIST and OpenMoji: the shipped classifier ("2" for Fashion-MNIST's of another seed). Others:
    `evaluator`, a classifier run or its exported file, else Inception where its weights are. Raises UserError
    where there is none (and says how to make one), or where a classifier knows other classes.
    """
    if evaluator is not None and inception is not None:
        raise UserError("give --evaluator or --inception, not both: a score has one network")
    name = SHIPPED.get((data.dataset, evaluator))
    if name is not None and inception is None:
        model, header = shipped_classifier(name)
        _require_size(name, model.config.image_size, data)
        return ClassifierFeatures(model, name, str(header["digest"]))
    if evaluator is not None:
        model, header = load_classifier_file(weights_file(evaluator))
        _require_same_classes(evaluator, header, data, class_names)
        return ClassifierFeatures(model, str(header["recipe"]), str(header["digest"]))
    file = find_inception(inception)
    if file is not None:
        return InceptionFeatures(file)
    raise UserError(
        "no evaluator for these images: torch-fidelity's Inception weights are not on this machine. Give their file "
        "with --inception FILE, or train a classifier on your classes and name it: "
        "vistok train classifier images64_evaluator --data FOLDER, then --evaluator RUN"
    )


def _require_same_classes(
    evaluator: str, header: dict[str, Any], data: DataConfig, class_names: Sequence[str] | None
) -> None:
    if header["dataset"] != data.dataset:
        raise UserError(
            f"evaluator {evaluator} was trained on {header['dataset']}, these images are of {data.dataset}: its features "
            "mean nothing here. Train one on these classes, or use --inception"
        )
    if class_names is not None and list(header["class_names"]) != list(class_names):
        raise UserError(
            f"evaluator {evaluator} knows the classes {', '.join(header['class_names'])}; these images have "
            f"{', '.join(class_names)}. Train one on these classes, or use --inception"
        )


def _require_size(name: str, image_size: int, data: DataConfig) -> None:
    if data.image_size != image_size:
        raise UserError(
            f"the shipped evaluator {name} takes images of {image_size} pixels, these have {data.image_size}: train one at "
            "their size and name it with --evaluator RUN"
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
        _references[key] = ReferenceSet(f"{data.dataset} {name}", digest.hexdigest(), torch.cat(features).numpy())
    return _references[key]


def frechet_score(
    prefix: str,
    found: Replicates,
    num_samples: int,
    reference: ReferenceSet,
    extractor: FeatureExtractor,
    treatment: Treatment,
    labels: str = "not used",
    estimator: str = FRECHET,
) -> Score:
    """Return a Fréchet distance as a score."""
    protocol = Protocol(
        metric=prefix + extractor.distance_name,
        extractor=extractor.name,
        extractor_digest=extractor.digest,
        reference=reference.name,
        reference_digest=reference.digest,
        num_reference=len(reference.features),
        num_samples=num_samples,
        resize=extractor.resize,
        labels=labels,
        estimator=estimator,
    )
    return Score.of(found, protocol, treatment)


def score_key(prefix: str, extractor: FeatureExtractor) -> str:
    """Return "rfmd", "gfid" and so on."""
    return (prefix + extractor.distance_name).lower()


def evaluation_file(run: Path, name: str, **parts: Any) -> Path:
    """Return where a run keeps an evaluation; `parts` are all that its numbers depend on, digests above all."""
    payload = json.dumps({"schema": SCHEMA, **parts}, sort_keys=True)
    return run / "evaluations" / f"{name}-{hashlib.sha256(payload.encode()).hexdigest()[:10]}.json"


def finished_evaluation(file: Path) -> dict[str, Any] | None:
    """Return what an evaluation found earlier, or None."""
    return RunDir(file.parent.parent).read(f"evaluations/{file.name}")
