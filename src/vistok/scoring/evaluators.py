"""Which network scores which images; reference features, computed once per process; where scores are stored."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vistok.config import science
from vistok.data.config import DataConfig
from vistok.data.images.sources import ImageSource
from vistok.data.images.transforms import to_uint8
from vistok.data.loader import eval_images
from vistok.engine.device import best_device
from vistok.engine.distributed import World
from vistok.errors import UserError, counted, some
from vistok.metrics.features import (
    ClassifierFeatures,
    FeatureExtractor,
    Features,
    ImageNetFeatures,
    InceptionFeatures,
    find_inception,
)
from vistok.metrics.moments import Moments, merge_all
from vistok.nn.efficientnet_lite import is_installed
from vistok.nn.frozen_config import INSTALL
from vistok.runs.frozen_networks import load_classifier_file, shipped_classifier
from vistok.runs.weights_file import weights_file
from vistok.scoring.evaluations import SCHEMA as SCHEMA  # what scores images also stores the scores
from vistok.scoring.evaluations import evaluation_file as evaluation_file
from vistok.scoring.evaluations import finished_evaluation as finished_evaluation
from vistok.scoring.evaluations import keep_evaluation as keep_evaluation
from vistok.scoring.evaluations import read_evaluation as read_evaluation
from vistok.scoring.evaluations import scores_in as scores_in
from vistok.scoring.image_batch import ImageBatch

BATCH = 500
SHOWN = 20  # class names in a message
# Shipped evaluators by data set and --evaluator.
SHIPPED = {
    ("fashion_mnist", None): "fashion_evaluator",
    ("fashion_mnist", "1"): "fashion_evaluator",
    ("fashion_mnist", "2"): "fashion_evaluator_2",
    ("openmoji", None): "openmoji_evaluator",
}
# The value of --evaluator that suits images of any kind.
IMAGENET = "imagenet"


def choose_evaluator(
    data: DataConfig,
    evaluator: str | None = None,
    inception: str | None = None,
    class_names: Sequence[str] | None = None,
) -> FeatureExtractor:
    """Return the network that scores images of this data set.

    Fashion-MNIST and OpenMoji: the shipped classifier (for Fashion-MNIST, "2" picks one from another seed). Others:
    `evaluator`, which is a classifier run, its exported file or "imagenet"; failing that Inception, if its weights are
    present; failing that the small ImageNet network, if it is installed. Raises UserError if there is none (and says
    how to get one), or if a classifier was trained on other classes.
    """
    if evaluator is not None and inception is not None:
        raise UserError("give --evaluator or --inception, not both: a score uses one network")
    name = SHIPPED.get((data.dataset, evaluator))
    if name is not None and inception is None:
        model, header = shipped_classifier(name)
        _require_size(name, model.config.image_size, data)
        return ClassifierFeatures(model.to(best_device()), name, str(header["digest"]))
    if evaluator == IMAGENET and inception is None:
        return ImageNetFeatures(best_device())
    if evaluator is not None:
        model, header = load_classifier_file(Path(evaluator))
        _require_same_classes(evaluator, header, data, class_names)
        return ClassifierFeatures(model.to(best_device()), str(header["recipe"]), str(header["digest"]))
    file = find_inception(inception)
    if file is not None:
        return InceptionFeatures(file, best_device())
    if is_installed():
        return ImageNetFeatures(best_device())
    raise UserError(
        "no evaluator for these images: torch-fidelity's Inception weights are not on this machine. Give their file "
        f"with --inception FILE, or install a small ImageNet network ({INSTALL}), or train a classifier on your classes "
        "and pass it: vistok train classifier images64_evaluator --data FOLDER, then --evaluator RUN"
    )


def second_evaluator(data: DataConfig, first: FeatureExtractor) -> FeatureExtractor | None:
    """Return another network to confirm the first: the shipped classifier from another seed, else the small ImageNet network.

    None where neither is there, or it is the first one.
    """
    shipped = (data.dataset, "2") in SHIPPED
    if not shipped and not is_installed():
        return None
    second = choose_evaluator(data, "2" if shipped else IMAGENET)
    return second if second.digest != first.digest else None


def evaluator_digest(data: DataConfig, evaluator: str | None) -> str | None:
    """Return the digest of the network that `choose_evaluator` picks for a name or path; None if none is given."""
    if evaluator is None:
        return None
    if evaluator == IMAGENET:
        return ImageNetFeatures.digest
    name = SHIPPED.get((data.dataset, evaluator))
    _, header = shipped_classifier(name) if name else load_classifier_file(weights_file(evaluator))
    return str(header["digest"])


def _require_same_classes(
    evaluator: str, header: dict[str, Any], data: DataConfig, class_names: Sequence[str] | None
) -> None:
    if header["dataset"] != data.dataset:
        raise UserError(
            f"evaluator {evaluator} was trained on {header['dataset']}, but these images are from {data.dataset}: its "
            "features mean nothing here. Train one on these classes, or use --inception"
        )
    if class_names is not None and list(header["class_names"]) != list(class_names):
        raise UserError(
            f"evaluator {evaluator} knows the classes {some(header['class_names'], SHOWN)}; these images have "
            f"{some(class_names, SHOWN)}. Train one on these classes, or use --inception"
        )


def _require_size(name: str, image_size: int, data: DataConfig) -> None:
    if data.image_size != image_size:
        raise UserError(
            f"the shipped evaluator {name} takes images of {image_size} pixels, but these have {data.image_size}; train one "
            "at their size and pass it with --evaluator RUN"
        )


def require_unseen(extractor: FeatureExtractor, in_losses: set[str]) -> None:
    """Raise UserError if the evaluator was part of the training losses (their digests): it would be scoring itself."""
    if extractor.digest in in_losses:
        raise UserError(
            f"evaluator {extractor.name} is a network in this tokenizer's or generator's training loss (perceptual, or what latents "
            "or a layer were aligned with), so it must not score it; use another one: --evaluator RUN, a classifier of your classes (vistok "
            "train classifier images64_evaluator --data FOLDER), or --inception FILE; for Fashion-MNIST, --evaluator 2"
        )


@dataclass
class Collected:
    """An extractor's output for many images: pooled features and, for Inception, logits and spatial moments."""

    pooled: list[torch.Tensor] = field(default_factory=list)
    logits: list[torch.Tensor] = field(default_factory=list)
    spatial: Moments | None = None

    def add(self, found: Features) -> None:
        """Add a batch."""
        self.pooled.append(found.pooled)
        if found.logits is not None and found.spatial is not None:
            self.logits.append(found.logits)
            part = Moments.of(found.spatial.numpy())
            self.spatial = part if self.spatial is None else self.spatial.merge(part)

    def joined(self, world: World) -> "Collected":
        """Return what all processes collected, in order."""
        spatial = [part for part in world.collect(self.spatial) if part is not None]
        logits = any(world.collect(bool(self.logits)))
        return Collected(
            [world.join(self.pooled)],
            [world.join(self.logits)] if logits else [],
            merge_all(spatial) if spatial else None,
        )

    @property
    def features(self) -> torch.Tensor:
        """All pooled features, (images, features)."""
        return torch.cat(self.pooled)


@dataclass(frozen=True)
class ReferenceSet:
    """Features of real images, with the name and digest that protocols record.

    `pooled` and `spatial`: mean and covariance, taken from an ADM file that has them. `of_split`: the images are a data
    set's split, not a file.
    """

    name: str
    digest: str
    features: np.ndarray
    pooled: Moments | None = None
    spatial: Moments | None = None
    of_split: bool = False

    @property
    def moments(self) -> Moments:
        """Mean and covariance of the pooled features."""
        return self.pooled or Moments.of(self.features)


# Keyed by everything that decides them: the network, the images, and how they are prepared.
_references: dict[tuple[str, str, str, str], ReferenceSet] = {}


def reference_set(extractor: FeatureExtractor, source: ImageSource, data: DataConfig, name: str) -> ReferenceSet:
    """Return the features of all images of a source, with a digest of their uint8 pixels."""
    key = (extractor.digest, source.digest, json.dumps(science(data), sort_keys=True), name)
    if key not in _references:
        digest = hashlib.sha256()
        collected = Collected()
        for batch in eval_images(source, data, BATCH):
            images = to_uint8(batch["images"])
            digest.update(images.numpy().tobytes())
            collected.add(extractor.everything(images))
        _references[key] = ReferenceSet(
            f"{data.dataset} {name}", digest.hexdigest(), collected.features.numpy(), None, collected.spatial, True
        )
    return _references[key]


def reference_of_batch(extractor: FeatureExtractor, batch: ImageBatch) -> ReferenceSet:
    """Return the features of a file's images. A file of statistics has no features; an ADM file's moments are kept.

    Raises UserError for a file that cannot be a reference.
    """
    require_reference(extractor, batch)
    inception = isinstance(extractor, InceptionFeatures)
    stored = batch.pooled if inception else None
    if stored is not None and not batch.count:
        return ReferenceSet(batch.name, batch.digest(), np.empty((0, len(stored.mean))), stored, batch.spatial)
    collected = Collected()
    for images in batch.batches(BATCH):
        collected.add(extractor.everything(images))
    spatial = batch.spatial if inception and batch.spatial is not None else collected.spatial
    name = f"{batch.name}, its own mean and covariance" if stored is not None else batch.name
    # Never mix moments computed here with those from the file, so that both distances refer to the same images.
    if stored is not None and batch.spatial is None:
        spatial = None
    return ReferenceSet(name, batch.digest(), collected.features.numpy(), stored, spatial)


def require_reference(extractor: FeatureExtractor, batch: ImageBatch) -> None:
    """Raise UserError for a file that this network cannot use as a reference; its images are not read."""
    if not isinstance(extractor, InceptionFeatures):
        if not batch.count:
            raise UserError(
                f"reference {batch.path}: holds a mean and a covariance of Inception's features but no images, which "
                f"evaluator {extractor.name} needs; give images, or use --inception"
            )
        require_images(batch.count, f"reference {batch.path}")
        return
    for moments, dim, what in (
        (batch.pooled, extractor.num_features, "mean"),
        (batch.spatial, extractor.num_spatial, "mean for sFID"),
    ):
        if moments is not None and len(moments.mean) != dim:
            raise UserError(
                f"reference {batch.path}: its {what} has {len(moments.mean)} features, but {extractor.name} has {dim}; use a "
                "reference made with Inception's 2,048 features"
            )
    if batch.pooled is None:
        require_images(batch.count, f"reference {batch.path}")


def require_images(count: int, what: str, least: int = 2) -> None:
    """Raise UserError for fewer images than a score needs; the default is what a Fréchet distance needs."""
    if count < least:
        raise UserError(
            f"{what} has {counted(count, 'image')}; "
            + (f"a Fréchet distance needs at least {least}" if least > 1 else "nothing can be scored")
        )


def score_key(prefix: str, extractor: FeatureExtractor) -> str:
    """Return "rfmd", "gfid" and so on."""
    return (prefix + extractor.distance_name).lower()
