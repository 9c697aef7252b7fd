"""Score a tokenizer: distortion, Fréchet distance of reconstructions, and how it uses its codes."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vistok.data.loader import eval_images
from vistok.data.open import open_split
from vistok.data.transforms import to_uint8
from vistok.engine.files import write_json
from vistok.engine.log import Progress
from vistok.engine.run_dir import RunDir
from vistok.metrics.codebook import codebook_statistics
from vistok.metrics.features import FeatureExtractor
from vistok.metrics.interval import frechet_interval
from vistok.metrics.moments import Moments
from vistok.metrics.protocol import Protocol, Score, Treatment
from vistok.metrics.reconstruction import psnr_per_image, ssim_per_image
from vistok.rng import numpy_generator
from vistok.tasks.cache_tokens import data_of
from vistok.tasks.evaluators import ReferenceSet, evaluation_file, reference_set, require_unseen
from vistok.tasks.load import load_tokenizer
from vistok.tasks.perceptual import perceptual_digest
from vistok.tokenizer.interface import Tokenizer

BATCH = 250
SCHEMA = 1


def evaluate_tokenizer(
    run: Path,
    extractor: FeatureExtractor | None,
    progress: Progress,
    split: str = "test",
    weights: str = "ema",
    root: str | None = None,
    second: FeatureExtractor | None = None,
) -> dict[str, Any]:
    """Score reconstructions of a split and return the scores; done before, it only reads them.

    Without an extractor there is no Fréchet distance; `second` adds one in another network's features.
    """
    tag = "-".join(found.digest[:8] for found in (extractor, second) if found) or "none"
    file = evaluation_file(run, f"tokenizer-{split}-{weights}-{tag}") if run.is_dir() else None
    if file is not None and file.is_file():
        return RunDir(run).read(str(file.relative_to(run))) or {}
    tokenizer = load_tokenizer(run, weights)
    data = data_of(tokenizer, root)
    source = open_split(data, split)
    extractors = [found for found in (extractor, second) if found is not None]
    for found in extractors:
        require_unseen(found, perceptual_digest(tokenizer.info))

    psnr, ssim, tokens = [], [], []
    features: list[list[torch.Tensor]] = [[] for _ in extractors]
    with progress.task(f"reconstructions ({weights})", len(source)) as bar:
        for batch in eval_images(source, data, BATCH):
            encoded = tokenizer.encode(batch["images"])
            real, fake = to_uint8(batch["images"]), to_uint8(tokenizer.decode(encoded))
            psnr.append(psnr_per_image(fake, real))
            ssim.append(ssim_per_image(fake, real))
            tokens.append(encoded.numpy().astype(np.uint32))
            for found, kept in zip(extractors, features, strict=True):
                kept.append(found(fake))
            bar.advance(len(encoded))

    scores: dict[str, Any] = {
        "schema_version": SCHEMA,
        "kind": "tokenizer",
        "run": run.name,
        "tokenizer_digest": tokenizer.info["digest"],
        "split": split,
        "num_images": len(source),
        "treatment": Treatment(weights=weights).model_dump(),  # type: ignore[arg-type]
        "psnr": float(torch.cat(psnr).mean()),
        "ssim": float(torch.cat(ssim).mean()),
        **_codebook(np.concatenate(tokens), tokenizer),
    }
    for found, kept, suffix in zip(extractors, features, ("", "_second"), strict=False):
        reference = reference_set(found, source, data, split)
        how = Treatment(weights=weights)  # type: ignore[arg-type]
        # Folders come sorted by class; the interval's blocks need a mixed order.
        mixed = numpy_generator(0, "blocks").permutation(len(source))
        score = frechet_score("r", torch.cat(kept).numpy()[mixed], reference, found, how)
        scores[score_key("r", found) + suffix] = score.model_dump()
    if file is not None:
        write_json(file, scores)
    return scores


def _codebook(tokens: np.ndarray, tokenizer: Tokenizer) -> dict[str, Any]:
    codes = codebook_statistics(tokens, tokenizer.codebook_size)
    return {
        "codebook": {**asdict(codes), "position_entropy": codes.position_entropy.tolist()},
        "position_entropy_mean": float(codes.position_entropy.mean()),
        "bits_per_image_upper_bound": float(np.log2(tokenizer.codebook_size) * tokenizer.token_grid.num_tokens),
    }


def score_key(prefix: str, extractor: FeatureExtractor) -> str:
    """Return "rfmd", "gfid" and so on."""
    return (prefix + extractor.distance_name).lower()


def frechet_score(
    prefix: str,
    features: np.ndarray,
    reference: ReferenceSet,
    extractor: FeatureExtractor,
    treatment: Treatment,
    labels: str = "not used",
) -> Score:
    """Return the Fréchet distance of features to a reference set, with interval, protocol and treatment."""
    interval = frechet_interval(features, Moments.of(reference.features))
    protocol = Protocol(
        metric=prefix + extractor.distance_name,
        extractor=extractor.name,
        extractor_digest=extractor.digest,
        reference=reference.name,
        reference_digest=reference.digest,
        num_samples=len(features),
        resize=extractor.resize,
        labels=labels,
    )
    return Score(
        value=interval.value,
        corrected=interval.corrected,
        low=interval.low,
        high=interval.high,
        protocol=protocol,
        treatment=treatment,
    )
