"""Score a tokenizer: distortion, Fréchet distance of its reconstructions, and how it uses its codes."""

import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vistok.data.config import DataConfig
from vistok.data.images.open import open_split
from vistok.data.images.sources import ImageSource
from vistok.data.images.transforms import resize_uint8, to_uint8
from vistok.data.loader import Batch, eval_images
from vistok.engine.distributed import join_world
from vistok.engine.log import Progress
from vistok.files import write_json
from vistok.metrics.codebook import codebook_statistics
from vistok.metrics.features import FeatureExtractor
from vistok.metrics.interval import Replicates, mean_replicates, paired_frechet_replicates
from vistok.metrics.protocol import FRECHET, Protocol, Score, Treatment
from vistok.metrics.reconstruction import psnr_per_image, ssim_per_image
from vistok.runs.frozen_networks import digests_in_losses
from vistok.runs.load import load_tokenizer
from vistok.runs.run_images import data_of
from vistok.scoring.evaluators import (
    SCHEMA,
    ReferenceSet,
    evaluation_file,
    finished_evaluation,
    reference_set,
    require_images,
    require_unseen,
    score_key,
)
from vistok.scoring.image_scores import kernel_score
from vistok.scoring.measured import Measured
from vistok.tokenizer.interface import Tokenizer

BATCH = 250
PAIRED = FRECHET + ", each left out of reconstructions and originals"


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
    done = finished_evaluation(file) if run.is_dir() else None
    if done is not None:
        return done
    for network in extractors:
        require_unseen(network, digests_in_losses(tokenizer.info))
    started = time.monotonic()
    reconstructed = _reconstruct(tokenizer, given, extractors, progress, f"reconstructions ({weights})")
    treatment = Treatment(weights=weights)  # type: ignore[arg-type]
    scores: dict[str, Any] = {
        "schema_version": SCHEMA,
        "kind": "tokenizer",
        "run": run.name,
        "tokenizer_digest": tokenizer.info.digest,
        "split": split,
        "num_images": len(source),
        "treatment": treatment.model_dump(),
        **_code_and_image_scores(tokenizer, reconstructed, f"{data.dataset} {split}", treatment, resize),
    }
    references = [reference_set(network, source, data, split) for network in extractors]
    scores |= _distances(extractors, reconstructed.features, references, treatment, resize)
    scores["seconds"] = round(time.monotonic() - started, 1)
    if run.is_dir() and join_world().main:
        write_json(file, scores)
    return scores


@dataclass
class _Reconstructed:
    """The results of one pass over the images, from all processes; `features`: one array per extractor."""

    psnr: np.ndarray
    ssim: np.ndarray
    latents: np.ndarray
    features: list[np.ndarray]
    digest: str


def _code_and_image_scores(
    tokenizer: Tokenizer, reconstructed: _Reconstructed, reference: str, treatment: Treatment, resize: str
) -> dict[str, Any]:
    """Return the scores that need no evaluator network."""

    def score(metric: str, values: Replicates, estimator: str) -> dict[str, Any]:
        protocol = Protocol(
            metric=metric,
            reference=reference,
            reference_digest=reconstructed.digest,
            num_reference=len(reconstructed.psnr),
            num_samples=len(reconstructed.psnr),
            resize=resize + "none",
            estimator=estimator,
        )
        return Score.of(values, protocol, treatment).model_dump(mode="json")

    scores = {
        "psnr": score("PSNR (dB)", mean_replicates(reconstructed.psnr), "per image, uint8, then mean"),
        "ssim": score("SSIM", mean_replicates(reconstructed.ssim), "per image, uint8, then mean"),
    }
    space = tokenizer.space
    if space.kind != "tokens":
        return scores
    codes = codebook_statistics(reconstructed.latents.astype(np.uint32), space.codebook_size)
    position_entropy = Replicates(float(codes.position_entropy.mean()))
    return {
        **scores,
        "codebook_usage": score("codebook usage (share)", Replicates(codes.usage), "codes that occur"),
        "entropy": score("entropy of tokens (bits)", Replicates(codes.entropy), "plug-in"),
        "position_entropy": score("entropy by position (bits)", position_entropy, "plug-in, mean over positions"),
        "codebook": {**asdict(codes), "position_entropy": codes.position_entropy.tolist()},
        "bits_per_image_upper_bound": float(np.log2(space.codebook_size) * space.layout.positions),
    }


def _distances(
    extractors: Sequence[FeatureExtractor],
    features: Sequence[np.ndarray],
    references: Sequence[ReferenceSet],
    treatment: Treatment,
    resize: str,
) -> dict[str, Any]:
    """Return the Fréchet distance in each extractor's features, and the kernel distance in the first one's."""
    scores = {}
    for extractor, fakes, reference, suffix in zip(extractors, features, references, ("", "_second"), strict=False):
        distance = paired_frechet_replicates(fakes, reference.features)
        measured = Measured("r", extractor, reference, treatment, len(fakes), resize=resize)
        scores[score_key("r", extractor) + suffix] = measured.frechet(distance, PAIRED).model_dump(mode="json")
        if not suffix:
            scores |= kernel_score(measured, fakes, paired=True)
    return scores


def _reconstruct(
    tokenizer: Tokenizer,
    given: tuple[tuple[ImageSource, DataConfig], tuple[ImageSource, DataConfig]],
    extractors: Sequence[FeatureExtractor],
    progress: Progress,
    name: str,
) -> _Reconstructed:
    """Encode, decode and measure all images; `given`: the images as they are compared, and as they are encoded."""
    (source, compared), (larger, encoded) = given
    psnr, ssim, latents = [], [], []
    features: list[list[torch.Tensor]] = [[] for _ in extractors]
    digests = []
    world = join_world()
    batches = world.share_of(range(-(-len(source) // BATCH)))
    with progress.task(name, len(source)) as bar:
        pairs: Iterable[tuple[Batch, Batch]]
        if compared == encoded:
            pairs = ((batch, batch) for batch in eval_images(source, compared, BATCH, batches=batches))
        else:
            originals = eval_images(source, compared, BATCH, batches=batches)
            pairs = zip(originals, eval_images(larger, encoded, BATCH, batches=batches), strict=True)
        for batch, other in pairs:
            encoded_batch = tokenizer.encode(other["images"])
            real = to_uint8(batch["images"])
            fake = resize_uint8(to_uint8(tokenizer.decode(encoded_batch)).cpu(), compared.sides)
            digests.append(hashlib.sha256(real.numpy().tobytes()).hexdigest())
            psnr.append(psnr_per_image(fake, real))
            ssim.append(ssim_per_image(fake, real))
            latents.append(encoded_batch.cpu())
            for extractor, kept in zip(extractors, features, strict=True):
                kept.append(extractor(fake))
            bar.advance(len(encoded_batch) * world.size)
    return _Reconstructed(
        world.join(psnr).numpy(),
        world.join(ssim).numpy(),
        world.join(latents).numpy(),
        [world.join(kept).numpy() for kept in features],
        hashlib.sha256("".join(sum(world.collect(digests), [])).encode()).hexdigest(),
    )
