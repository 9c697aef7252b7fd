"""Score a file of images, from any generator, against the images in another file."""

from typing import Any

from vistok.engine.distributed import join_world
from vistok.engine.log import Progress
from vistok.errors import UserError
from vistok.metrics.features import FeatureExtractor
from vistok.metrics.protocol import Treatment
from vistok.scoring.evaluators import (
    BATCH,
    SCHEMA,
    Collected,
    reference_of_batch,
    require_images,
    require_reference,
)
from vistok.scoring.image_batch import ImageBatch
from vistok.scoring.image_scores import all_image_scores
from vistok.scoring.measured import Measured

LABELS = "as the file has them"


def evaluate_samples(
    samples: ImageBatch, reference: ImageBatch, extractor: FeatureExtractor, progress: Progress
) -> dict[str, Any]:
    """Return Fréchet distance, precision and recall and, with Inception, sFID and Inception score.

    With several processes, each computes the same. Raises UserError for images of different sizes, and for too few.
    """
    if not samples.count:
        raise UserError(f"samples {samples.path}: holds a mean and a covariance but no images; give the images")
    require_images(samples.count, f"samples {samples.path}")
    require_reference(extractor, reference)
    if reference.count and samples.shape[:2] != reference.shape[:2]:
        raise UserError(
            f"{samples.name} has images of {samples.shape[:2]} (height, width), {reference.name} of {reference.shape[:2]}; "
            "resize one of them yourself, since the resizing method affects scores"
        )
    for batch in (samples, reference):
        if batch.ignored:
            progress.say(f"{batch.name}: {batch.ignored}")
    collected = Collected()
    with progress.task(f"features of {samples.name}", samples.count) as bar:
        for images in samples.batches(BATCH):
            collected.add(extractor.everything(images))
            bar.advance(len(images))
    against = reference_of_batch(extractor, reference)
    measured = Measured("", extractor, against, Treatment(weights="none"), samples.count, LABELS)
    scores = all_image_scores(measured, collected, mixed=samples.is_folder)
    join_world().wait()
    return {
        "schema_version": SCHEMA,
        "kind": "samples",
        "samples": samples.name,
        "reference": reference.name,
        "num_images": samples.count,
        **scores,
    }
