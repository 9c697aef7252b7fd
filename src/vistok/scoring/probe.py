"""What a generator knows of images: classes read linearly from its inner layers (DiGIT, arXiv 2410.12490, section 5.1).

The generator sees whole held-out images without their class. The images that the probe is fitted to, those that choose the layer,
and those that are scored are three different parts of the held-out images.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from vistok.data.latents.cache import LatentCache
from vistok.engine.distributed import join_world
from vistok.engine.log import Progress
from vistok.generator.interface import Generator, HasInner
from vistok.metrics.interval import mean_replicates
from vistok.metrics.protocol import Protocol, Score, Treatment
from vistok.nn.evaluation import in_evaluation
from vistok.runs.load import load_generator
from vistok.scoring.evaluations import SCHEMA, evaluation_file, finished_evaluation, keep_evaluation
from vistok.scoring.nats import BATCH, held_out_rows
from vistok.scoring.scorer import Finished, Scored, Scorer, bounds

IMAGES, LEAST = 10_000, 50
# Of the squared weights, beside the mean squared error, with features of mean 0 and variance 1.
RIDGE = 1e-2
# Shares of the images that the probe is fitted to, and that choose the layer.
FITTED, CHOOSING = 0.5, 0.1
ESTIMATOR = "ridge regression on one-hot classes from each layer, mean over positions, no class given; layer chosen on other images"


def right_by(
    features: Float[Tensor, "images width"], labels: Int[Tensor, "images"], fitted: int, num_classes: int
) -> np.ndarray:
    """Return which of the images after the first `fitted` a linear map, fitted to those, puts into the right class."""
    features = features.double()
    mean, deviation = features[:fitted].mean(dim=0), features[:fitted].std(dim=0)
    ready = (features - mean) / deviation.clamp(min=1e-6)
    ready = torch.cat([ready, torch.ones_like(ready[:, :1])], dim=1)
    known = ready[:fitted]
    target = F.one_hot(labels[:fitted], num_classes).double()
    gram = known.T @ known / fitted + RIDGE * torch.eye(known.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, known.T @ target / fitted)
    return ((ready[fitted:] @ weights).argmax(dim=1) == labels[fitted:]).numpy()


@torch.inference_mode()
def layer_features(
    generator: Generator, cache: LatentCache, rows: np.ndarray, progress: Progress
) -> tuple[list[Float[Tensor, "images width"]], Int[Tensor, "images"]]:
    """Return each layer's features of these rows, and the rows' classes."""
    assert isinstance(generator, HasInner) and generator.null_label is not None
    device, found, labels = next(generator.parameters()).device, [], []
    with in_evaluation(generator), progress.task("inner layers of held-out latents", len(rows)) as bar:
        for start in range(0, len(rows), BATCH):
            batch = cache.batch(rows[start : start + BATCH])
            null = torch.full_like(batch["labels"], generator.null_label).to(device)
            found.append([layer.float().cpu() for layer in generator.inner(batch["latents"].to(device), null)])
            labels.append(batch["labels"])
            bar.advance(len(null))
    return [torch.cat(parts) for parts in zip(*found, strict=True)], torch.cat(labels)


def can_probe(generator: Generator, cache: LatentCache | None) -> bool:
    """Whether the family shows its layers, was trained without classes, too, and there are classes and images enough."""
    if cache is None or not isinstance(generator, HasInner) or generator.null_label is None:
        return False
    return len(cache.manifest.class_names) > 1 and cache.num_images >= LEAST


def evaluate_probe(
    run: Path, cache: LatentCache, progress: Progress, loaded: Generator | None = None
) -> dict[str, Any]:
    """Return the accuracy from the best layer, and from all, on a part of a cache of held-out images.

    An earlier evaluation is read, not repeated.
    """
    generator = loaded or load_generator(run, "ema")
    file = evaluation_file(run, f"probe-{cache.manifest.split}", model=generator.info.digest, cache=cache.identity())
    if run.is_dir() and (done := finished_evaluation(file, progress)) is not None:
        return done
    cache.verify()
    rows = held_out_rows(cache, IMAGES)
    rows = rows[np.random.Generator(np.random.Philox(0)).permutation(len(rows))]
    layers, labels = layer_features(generator, cache, rows, progress)
    fitted, scored = round(FITTED * len(rows)), round((FITTED + CHOOSING) * len(rows))
    right = [right_by(features, labels, fitted, len(cache.manifest.class_names)) for features in layers]
    best = max(range(len(layers)), key=lambda layer: right[layer][: scored - fitted].mean())
    protocol = Protocol(
        metric="linear probe accuracy",
        reference=f"{cache.manifest.dataset} {cache.manifest.split}",
        reference_digest=cache.manifest.data_digest,
        num_reference=fitted,
        num_samples=len(rows) - scored,
        rounding="none",
        labels="classes of the images",
        estimator=ESTIMATOR,
    )
    score = Score.of(mean_replicates(right[best][scored - fitted :]), protocol, Treatment(weights="ema"))
    result = {
        "schema_version": SCHEMA,
        "kind": "probe",
        "run": run.name,
        "split": cache.manifest.split,
        "layer": best + 1,
        "score": score.model_dump(mode="json"),
        "by_layer": [float(layer[scored - fitted :].mean()) for layer in right],
    }
    if run.is_dir() and join_world().main:
        keep_evaluation(file, result)
    return result


class LinearProbe(Scorer):
    """The accuracy of a linear probe of inner layers, for families that show them."""

    of = "generator"

    def applies(self, run: Finished) -> bool:
        """Whether there are layers to read, and classes."""
        return can_probe(run.generator, run.caches.get("val"))

    def score(self, run: Finished) -> Scored:
        """Probe held-out latents."""
        found = evaluate_probe(run.path, run.caches["val"], run.progress, run.generator)
        columns = {**bounds("probe_accuracy", found["score"]), "probe_layer": found["layer"]}
        return Scored(columns, {"probe": found})
