"""Reconstructions of images by any autoencoder, and the scores that compare them with their originals."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from vistok.data.images.transforms import resize_uint8, to_float, to_uint8
from vistok.engine.distributed import ALONE, World
from vistok.engine.log import Progress
from vistok.metrics import protocol
from vistok.metrics.features import FeatureExtractor
from vistok.metrics.interval import Replicates, mean_replicates, paired_frechet_replicates
from vistok.metrics.protocol import FRECHET, Score, Treatment
from vistok.metrics.reconstruction import psnr_per_image, ssim_per_image
from vistok.scoring.evaluators import ReferenceSet, score_key
from vistok.scoring.image_scores import kernel_score
from vistok.scoring.measured import Measured

BATCH = 250  # part of the protocol: the reference's digest is one of digests of batches
PAIRED = FRECHET + ", each left out of reconstructions and originals"


class Autoencoder(Protocol):
    """Whatever maps images, floats in [-1, 1], (batch, channels, height, width), to latents and back."""

    def encode(self, images: Tensor) -> Any:
        """Return latents."""
        ...

    def decode(self, latents: Any) -> Tensor:
        """Return images."""
        ...


@dataclass
class Reconstructed:
    """The results of one pass over the images, from all processes; `features`: one array per extractor.

    `latents` are kept where they are wanted. `digest` is of the originals.
    """

    psnr: np.ndarray
    ssim: np.ndarray
    latents: np.ndarray | None
    features: list[np.ndarray]
    digest: str


def reconstruct(
    autoencoder: Autoencoder,
    pairs: Iterable[tuple[Tensor, Tensor]],
    count: int,
    extractors: Sequence[FeatureExtractor],
    progress: Progress,
    name: str,
    keep_latents: bool = False,
    world: World = ALONE,
) -> Reconstructed:
    """Encode, decode and measure images, in batches of `BATCH`.

    `pairs`: images as they are encoded, floats in [-1, 1], and as they are compared, uint8; reconstructions of another size
    are resized to the latter's. `count`: how many they are over all processes.
    """
    psnr, ssim, latents = [], [], []
    features: list[list[Tensor]] = [[] for _ in extractors]
    digests = []
    with progress.task(name, count) as bar:
        for images, real in pairs:
            encoded = autoencoder.encode(images)
            fake = resize_uint8(to_uint8(autoencoder.decode(encoded)).cpu(), (real.shape[2], real.shape[3]))
            digests.append(hashlib.sha256(real.numpy().tobytes()).hexdigest())
            psnr.append(psnr_per_image(fake, real))
            ssim.append(ssim_per_image(fake, real))
            if keep_latents:
                latents.append(encoded.cpu())
            for extractor, kept in zip(extractors, features, strict=True):
                kept.append(extractor(fake))
            bar.advance(len(real) * world.size)
    return Reconstructed(
        world.join(psnr).numpy(),
        world.join(ssim).numpy(),
        world.join(latents).numpy() if keep_latents else None,
        [world.join(kept).numpy() for kept in features],
        hashlib.sha256("".join(sum(world.collect(digests), [])).encode()).hexdigest(),
    )


@dataclass(frozen=True)
class PlainScores:
    """Scores of reconstructions that need no evaluator network share these parts of their protocols."""

    reference: str
    digest: str
    count: int
    treatment: Treatment
    resize: str = ""

    def score(self, metric: str, values: Replicates, estimator: str) -> dict[str, Any]:
        """Return a score as JSON values."""
        agreed = protocol.Protocol(
            metric=metric,
            reference=self.reference,
            reference_digest=self.digest,
            num_reference=self.count,
            num_samples=self.count,
            resize=self.resize + "none",
            estimator=estimator,
        )
        return Score.of(values, agreed, self.treatment).model_dump(mode="json")


def distortion(reconstructed: Reconstructed, plain: PlainScores) -> dict[str, Any]:
    """Return PSNR (dB) and SSIM."""
    how = "per image, uint8, then mean"
    return {
        "psnr": plain.score("PSNR (dB)", mean_replicates(reconstructed.psnr), how),
        "ssim": plain.score("SSIM", mean_replicates(reconstructed.ssim), how),
    }


def distances(
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


def pairs_of(images: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    """Yield uint8 images, (count, channels, height, width), in batches: as they are encoded, and as they are compared."""
    for batch in images.split(BATCH):
        yield to_float(batch), batch.contiguous()
