"""Scores of images that are there already, or that come from anywhere, a batch at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vistok.data.images.transforms import resize_uint8
from vistok.errors import UserError
from vistok.metrics.features import FeatureExtractor
from vistok.metrics.protocol import Treatment
from vistok.python.asked import Asked
from vistok.python.given_labels import label_list
from vistok.python.reference import Reference
from vistok.python.scores import Scores
from vistok.scoring.evaluate_generator import BALANCED, PRECISION_RECALL_IMAGES
from vistok.scoring.evaluate_samples import LABELS
from vistok.scoring.evaluations import scores_in
from vistok.scoring.evaluators import BATCH, Collected, require_images
from vistok.scoring.few_images import few_images_warnings
from vistok.scoring.foreign_module import looks_like_zero_to_one
from vistok.scoring.image_batch import ImageBatch
from vistok.scoring.image_scores import all_image_scores
from vistok.scoring.measured import Measured


def score_images(batch: ImageBatch, reference: Reference, asked: Asked) -> Scores:
    """Score images, with their labels if the user gave some, against a reference."""
    if not batch.count:
        raise UserError(f"samples {batch.path}: holds a mean and a covariance but no images; give the images")
    require_images(batch.count, f"samples {batch.name}")
    if reference.count and batch.shape[:2] != reference.sides:
        raise UserError(
            f"samples are {batch.shape[:2]}, reference {reference.name} is {reference.sides} (height, width); resize one of them "
            "yourself, since the resizing method affects scores"
        )
    prefix, labels = "", LABELS
    if asked.labels is not None:
        prefix, labels = "g", in_words(torch.tensor(label_list(asked.labels, batch.count)), len(reference.class_names))
    source = Source(prefix, labels, Treatment(weights="none"), batch.name, is_folder=batch.is_folder)
    return score_stream(_with_bar(batch, asked), source, reference, asked.extractor(reference))


def _with_bar(batch: ImageBatch, asked: Asked) -> Iterator[Tensor]:
    with asked.progress.task(f"features of {batch.name}", batch.count) as bar:
        for images in batch.batches(BATCH):
            yield images
            bar.advance(len(images))


@dataclass(frozen=True)
class Source:
    """Where a stream of images comes from, as protocols record it.

    `prefix` starts the names of scores: g for samples of a generator. `labels` says how classes were chosen. `floats`: they
    were floats, whose range may be misunderstood.
    """

    prefix: str
    labels: str
    treatment: Treatment
    name: str
    is_folder: bool = False
    floats: bool = False


def score_stream(images: Iterable[Tensor], source: Source, reference: Reference, extractor: FeatureExtractor) -> Scores:
    """Score uint8 images (batch, channels, height, width) as they come.

    Those for a run's reference are resized to its size, as that run's own samples are. Raises UserError where another
    reference has other sizes.
    """
    against = reference.features(extractor)
    collected, resize, light = Collected(), "", source.floats
    for batch in images:
        drawn = (batch.shape[2], batch.shape[3])
        if drawn != reference.sides and reference.count:
            if reference.data is None:
                raise UserError(
                    f"{source.name} draws images of {drawn}, reference {reference.name} is {reference.sides} (height, width); "
                    "give a reference of that size"
                )
            resize = f"{drawn[0]} to {reference.sides[0]} pixels bicubic, antialiased; "
            batch = resize_uint8(batch, reference.sides)
        light = light and looks_like_zero_to_one(batch)
        collected.add(extractor.everything(batch))
    measured = Measured(
        source.prefix, extractor, against, source.treatment, len(collected.features), source.labels, resize
    )
    limit = PRECISION_RECALL_IMAGES if against.of_split else None
    scores = all_image_scores(measured, collected, limit, mixed=source.is_folder)
    warnings = [
        *few_images_warnings(scores, extractor.num_features),
        *(f"not scored: {why}" for why in scores.get("left_out", ())),
    ]
    if light:
        warnings.append(
            f"no pixel of {source.name} is below 0: vistok takes floats in [-1, 1]; from [0, 1] return 2 * x - 1"
        )
    return Scores(source.name, list(scores_in(scores)), warnings, scores)


def in_words(labels: Tensor, num_classes: int) -> str:
    """Return how labels spread over classes: evenly, as a run's own samples are, or otherwise."""
    counts = torch.bincount(labels, minlength=num_classes)
    even = num_classes > 0 and len(counts) == num_classes and int(counts.max() - counts.min()) <= 1
    first_have_more = bool((counts[:-1] >= counts[1:]).all())
    return BALANCED if even and first_have_more else f"given: {' '.join(map(str, counts.tolist()))} by class"


def labels_of(given: Any, count: int, num_classes: int | None, name: str) -> Tensor:
    """Return the labels to draw, (count,), int64: those given, else all classes by turns. Raises UserError for others."""
    if given is not None:
        labels = torch.as_tensor(given)
        if labels.ndim != 1 or labels.is_floating_point() or len(labels) < 2:
            raise UserError(
                f"labels: {labels.dtype} of shape {tuple(labels.shape)}; give two or more class numbers, (count,)"
            )
        return labels.long()
    if not num_classes:
        raise UserError(
            f"{name}: the classes to draw are unknown; give labels=(count,) class numbers, or a run as reference, or the network an "
            "attribute num_classes"
        )
    return torch.arange(count) % num_classes
