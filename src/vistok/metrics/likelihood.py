"""Token likelihood: nats per token, by position, and bits per image. It is a rate, never a ranking by itself."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Likelihood:
    """Likelihood of held-out images. `per_image`: nats per token, (images,). `position_nats`: (positions,)."""

    nats_per_token: float
    bits_per_image: float
    per_image: np.ndarray
    position_nats: np.ndarray


def likelihood(nats: np.ndarray) -> Likelihood:
    """Summarise nats (images, positions)."""
    nats = nats.astype(np.float64)
    per_image = nats.mean(axis=1)
    mean = float(per_image.mean())
    return Likelihood(mean, mean * nats.shape[1] / math.log(2), per_image, nats.mean(axis=0))
