"""Score a generator: Fréchet distance of samples, precision and recall, likelihood, memorisation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vistok.config import fingerprint
from vistok.data.config import DataConfig
from vistok.data.loader import eval_images
from vistok.data.open import open_split
from vistok.data.sources import ImageSource
from vistok.data.transforms import to_uint8
from vistok.engine.files import write_json
from vistok.engine.log import Progress
from vistok.engine.run_dir import RunDir
from vistok.errors import UserError
from vistok.generator.autoregressive import AutoregressiveGenerator
from vistok.generator.config import SamplingConfig
from vistok.metrics.features import FeatureExtractor
from vistok.metrics.memorization import memorization
from vistok.metrics.precision_recall import precision_recall
from vistok.metrics.protocol import Treatment
from vistok.tasks.cache_tokens import data_of
from vistok.tasks.evaluate_tokenizer import frechet_score, score_key
from vistok.tasks.evaluators import evaluation_file, reference_set, require_unseen
from vistok.tasks.load import load_generator, load_tokenizer_of
from vistok.tasks.perceptual import perceptual_digest
from vistok.tasks.sample import balanced_labels, sample_batches
from vistok.tokenizer.interface import Tokenizer

SCHEMA = 1
PRECISION_RECALL_SAMPLES = 5_000
MEMORIZATION_SAMPLES = 1_000
BALANCED = "balanced: image i has class i mod the number of classes"


@dataclass
class Stage2:
    """A generator with the tokenizer that decodes it, and the data both were trained on."""

    generator: AutoregressiveGenerator
    tokenizer: Tokenizer
    data: DataConfig


def load_stage2(run: Path, weights: str = "ema", tokenizer: str | None = None, root: str | None = None) -> Stage2:
    """Load both stages of a generator's run; raises UserError for a file, beside which scores have no place."""
    if run.is_file():
        raise UserError(f"{run} is a file; give the generator's run directory, where its scores are kept")
    generator = load_generator(run, weights)
    decoder = load_tokenizer_of(generator, tokenizer)
    return Stage2(generator, decoder, data_of(decoder, root))


def evaluate_generator(
    run: Path,
    extractor: FeatureExtractor,
    progress: Progress,
    sampling: SamplingConfig,
    num_samples: int = 10_000,
    split: str = "test",
    weights: str = "ema",
    tokenizer: str | None = None,
    root: str | None = None,
    second: FeatureExtractor | None = None,
) -> dict[str, Any]:
    """Score samples against a split and return the scores; done before, it only reads them.

    The features are kept beside the scores (.npy), for paired differences of two runs. `second` adds a
    distance in another network's features.
    """
    extractors = [extractor] if second is None else [extractor, second]
    digests = "-".join(found.digest for found in extractors)
    key = fingerprint(sampling, extractor=digests, n=str(num_samples), split=split, weights=weights)
    file = evaluation_file(run, f"generator-{key}")
    done = RunDir(run).read(str(file.relative_to(run)))
    if done is not None:
        return done
    stage2 = load_stage2(run, weights, tokenizer, root)
    for found in extractors:
        require_unseen(found, perceptual_digest(stage2.tokenizer.info))
    source = open_split(stage2.data, split)
    name = f"samples, guidance {sampling.guidance_scale:g} ({weights})"
    features, images = _draw(stage2, sampling, num_samples, extractors, progress, name)
    treatment = treatment_of(sampling, weights)
    distances = {}
    for found, drawn, suffix in zip(extractors, features, ("", "_second"), strict=False):
        reference = reference_set(found, source, stage2.data, split)
        score = frechet_score("g", drawn.numpy(), reference, found, treatment, BALANCED)
        distances[score_key("g", found) + suffix] = score.model_dump()
    real = torch.from_numpy(reference_set(extractor, source, stage2.data, split).features)
    limit = PRECISION_RECALL_SAMPLES
    precision, recall = precision_recall(real[:limit], features[0][:limit])
    scores = {
        "schema_version": SCHEMA,
        "kind": "generator",
        "run": run.name,
        "generator_digest": stage2.generator.info["digest"],
        "tokenizer_digest": stage2.tokenizer.info["digest"],
        **distances,
        "precision": precision,
        "recall": recall,
        "precision_recall_samples": min(PRECISION_RECALL_SAMPLES, num_samples),
        "memorization": memorization_of(images, stage2.data, source, open_split(stage2.data, "train")),
        "features": f"{file.stem}.npy",
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file.with_suffix(".npy"), features[0].numpy())
    write_json(file, scores)
    return scores


def _draw(
    stage2: Stage2,
    sampling: SamplingConfig,
    count: int,
    extractors: Sequence[FeatureExtractor],
    progress: Progress,
    name: str,
) -> tuple[list[Tensor], Tensor]:
    """Draw samples; return their features by each extractor, and the first images."""
    labels = balanced_labels(count, stage2.generator.num_classes)
    features: list[list[Tensor]] = [[] for _ in extractors]
    images: list[Tensor] = []
    for batch in sample_batches(stage2.generator, stage2.tokenizer, labels, sampling, progress, name):
        for extractor, kept in zip(extractors, features, strict=True):
            kept.append(extractor(batch))
        if sum(map(len, images)) < MEMORIZATION_SAMPLES:
            images.append(batch)
    return [torch.cat(kept) for kept in features], torch.cat(images)


def treatment_of(sampling: SamplingConfig, weights: str) -> Treatment:
    """Return what a protocol records of how samples were made."""
    return Treatment(weights=weights, **sampling.model_dump())  # type: ignore[arg-type]


def choose_guidance(
    run: Path,
    extractor: FeatureExtractor,
    progress: Progress,
    scales: Sequence[float],
    num_samples: int,
    seed: int = 0,
    tokenizer: str | None = None,
    root: str | None = None,
) -> dict[str, Any]:
    """Return the guidance scale of least distance to `val`, images held out of train: never the test set.

    The samples' noise is of another seed than the scores'.
    """
    file = evaluation_file(run, f"guidance-{extractor.digest[:8]}-{num_samples}-{'-'.join(map(str, scales))}")
    done = RunDir(run).read(str(file.relative_to(run)))
    if done is not None:
        return done
    stage2 = load_stage2(run, "ema", tokenizer, root)
    reference = reference_set(extractor, open_split(stage2.data, "val"), stage2.data, "val")
    found = {}
    for scale in scales:
        sampling = SamplingConfig(guidance_scale=scale, seed=seed + 1)
        ((drawn,), _) = _draw(stage2, sampling, num_samples, [extractor], progress, f"choosing guidance: {scale:g}")
        score = frechet_score("g", drawn.numpy(), reference, extractor, treatment_of(sampling, "ema"), BALANCED)
        found[f"{scale:g}"] = score.model_dump()
    best = min(scales, key=lambda scale: found[f"{scale:g}"]["value"])
    result = {"schema_version": SCHEMA, "guidance_scale": best, "num_samples": num_samples, "scores": found}
    write_json(file, result)
    return result


def memorization_of(samples: Tensor, data: DataConfig, unseen: ImageSource, train: ImageSource) -> dict[str, Any]:
    """Compare samples' nearest training images with those of unseen images (pixels, RMS on 0...1)."""
    limit = MEMORIZATION_SAMPLES
    result = memorization(_flat(samples[:limit]), _pixels(unseen, data, limit), _pixels(train, data, 50_000))
    closest = result.distance.argsort()[:10]
    return {
        "num_samples": min(limit, len(samples)),
        "sample_median": result.sample_median,
        "real_median": result.real_median,
        "copy_share": result.copy_share,
        "closest": [
            {"sample": int(i), "train_image": int(result.nearest[i]), "distance": float(result.distance[i])}
            for i in closest
        ],
    }


def _pixels(source: ImageSource, data: DataConfig, limit: int) -> Tensor:
    return torch.cat([_flat(to_uint8(batch["images"])) for batch in eval_images(source, data, 1000, limit=limit)])


def _flat(images: Tensor) -> Tensor:
    return images.flatten(1).float() / 255
