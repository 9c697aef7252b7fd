"""Score a tokenizer: distortion, Fréchet distance of its reconstructions, and how it uses its codes."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vistok.data.config import DataConfig
from vistok.data.images.open import open_split
from vistok.data.images.sources import ImageSource
from vistok.data.images.transforms import to_uint8
from vistok.data.loader import Batch, eval_images
from vistok.engine.distributed import join_world
from vistok.engine.log import Progress
from vistok.metrics.codebook import codebook_statistics
from vistok.metrics.features import FeatureExtractor
from vistok.metrics.interval import Replicates
from vistok.metrics.protocol import Treatment
from vistok.runs.frozen_networks import digests_in_losses
from vistok.runs.load import load_tokenizer
from vistok.runs.run_images import data_of
from vistok.scoring.evaluators import (
    SCHEMA,
    evaluation_file,
    finished_evaluation,
    keep_evaluation,
    reference_set,
    require_images,
    require_unseen,
)
from vistok.scoring.reconstructions import BATCH, PlainScores, Reconstructed, distances, distortion, reconstruct
from vistok.tokenizer.interface import Tokenizer


def evaluate_tokenizer(
    run: Path,
    extractor: FeatureExtractor | None,
    progress: Progress,
    split: str = "test",
    weights: str = "ema",
    root: str | None = None,
    second: FeatureExtractor | None = None,
    image_size: int | None = None,
) -> dict[str, Any]:
    """Score reconstructions of a split and return the scores; an earlier evaluation is read, not repeated.

    Without an extractor there is no Fréchet distance; `second` adds one in another network's features. With
    `image_size`, larger or smaller images are encoded and reconstructions are resized to the usual size before scoring
    (CRT paper 3.4).
    """
    tokenizer = load_tokenizer(run, weights)
    data = data_of(tokenizer, root)
    if image_size == tokenizer.config.image_size:
        image_size = None
    tokenizer = tokenizer.resized(image_size) if image_size else tokenizer
    encoded = data_of(tokenizer, root, image_size)
    resize = f"{image_size} to {data.image_size} pixels bicubic, antialiased; " if image_size else ""
    source = open_split(data, split)
    extractors = [network for network in (extractor, second) if network is not None]
    require_images(len(source), f"split {split!r} of {data.dataset}", 2 if extractors else 1)
    given = (source, data), (open_split(encoded, split) if image_size else source, encoded)
    file = evaluation_file(
        run,
        f"tokenizer-{split}-{weights}",
        tokenizer=tokenizer.info.digest,
        images=source.digest,
        extractors=[network.digest for network in extractors],
        **({"image_size": image_size} if image_size else {}),
    )
    if run.is_dir() and (done := finished_evaluation(file, progress)) is not None:
        return done
    for network in extractors:
        require_unseen(network, digests_in_losses(tokenizer.info))
    started = time.monotonic()
    reconstructed = _reconstructed(tokenizer, given, extractors, progress, f"reconstructions ({weights})")
    treatment = Treatment(weights=weights)  # type: ignore[arg-type]
    plain = PlainScores(f"{data.dataset} {split}", reconstructed.digest, len(source), treatment, resize)
    scores: dict[str, Any] = {
        "schema_version": SCHEMA,
        "kind": "tokenizer",
        "run": run.name,
        "tokenizer_digest": tokenizer.info.digest,
        "split": split,
        "num_images": len(source),
        "treatment": treatment.model_dump(),
        **distortion(reconstructed, plain),
        **_code_scores(tokenizer, reconstructed, plain),
    }
    references = [reference_set(network, source, data, split) for network in extractors]
    scores |= distances(extractors, reconstructed.features, references, treatment, resize)
    scores["seconds"] = round(time.monotonic() - started, 1)
    if run.is_dir() and join_world().main:
        keep_evaluation(file, scores)
    return scores


Prepared = tuple[ImageSource, DataConfig]


def _reconstructed(
    tokenizer: Tokenizer,
    given: tuple[Prepared, Prepared],
    extractors: Sequence[FeatureExtractor],
    progress: Progress,
    name: str,
) -> Reconstructed:
    """Reconstruct this process's share of the images; `given`: as they are compared, and as they are encoded."""
    world, count = join_world(), len(given[0][0])
    pairs = _pairs(*given, world.share_of(range(-(-count // BATCH))))
    tokens = tokenizer.space.kind == "tokens"
    return reconstruct(tokenizer, pairs, count, extractors, progress, name, keep_latents=tokens, world=world)


def _code_scores(tokenizer: Tokenizer, reconstructed: Reconstructed, plain: PlainScores) -> dict[str, Any]:
    """Return how codes are used; {} for vectors."""
    space = tokenizer.space
    if space.kind != "tokens" or reconstructed.latents is None:
        return {}
    codes = codebook_statistics(reconstructed.latents.astype(np.uint32), space.codebook_size)
    position_entropy = Replicates(float(codes.position_entropy.mean()))
    bits = float(np.log2(space.codebook_size) * space.layout.positions)
    return {
        "codebook_usage": plain.score("codebook usage (share)", Replicates(codes.usage), "codes that occur"),
        "entropy": plain.score("entropy of tokens (bits)", Replicates(codes.entropy), "plug-in"),
        "position_entropy": plain.score("entropy by position (bits)", position_entropy, "plug-in, mean over positions"),
        "codebook": {**asdict(codes), "position_entropy": codes.position_entropy.tolist()},
        "rate": plain.score("rate (bits an image, at most)", Replicates(bits), "log2 of the codes, at every position"),
        "bits_per_image_upper_bound": bits,
    }


def _pairs(compared: Prepared, encoded: Prepared, batches: range) -> Iterable[tuple[Tensor, Tensor]]:
    """Yield batches of images as they are encoded and as they are compared, at another size perhaps."""
    for batch, other in _batches(compared, encoded, batches):
        yield other["images"], to_uint8(batch["images"])


def _batches(compared: Prepared, encoded: Prepared, batches: range) -> Iterable[tuple[Batch, Batch]]:
    originals = eval_images(*compared, BATCH, batches=batches)
    if compared[1] == encoded[1]:
        return ((batch, batch) for batch in originals)
    return zip(originals, eval_images(*encoded, BATCH, batches=batches), strict=True)
