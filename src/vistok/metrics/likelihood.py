"""Token likelihood: nats per token, by position; bits per image. A rate, never a ranking by itself."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Likelihood:
    """Of held-out images. position_nats: (positions,); standard_error: of nats_per_token, over images."""

    nats_per_token: float
    standard_error: float
    bits_per_image: float
    position_nats: np.ndarray
    num_images: int


def likelihood(nats: np.ndarray) -> Likelihood:
    """Summarise nats (images, positions)."""
    per_image = nats.astype(np.float64).mean(axis=1)
    mean = float(per_image.mean())
    return Likelihood(
        nats_per_token=mean,
        standard_error=float(per_image.std(ddof=1) / math.sqrt(len(per_image))) if len(per_image) > 1 else math.inf,
        bits_per_image=mean * nats.shape[1] / math.log(2),
        position_nats=nats.astype(np.float64).mean(axis=0),
        num_images=len(nats),
    )
