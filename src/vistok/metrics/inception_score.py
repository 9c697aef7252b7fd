"""Inception score (Salimans et al. 2016): how confident the classifier is about each image, and how varied its predictions are."""

import torch
from jaxtyping import Float
from torch import Tensor

from vistok.rng import numpy_generator

SPLITS = 10


def shuffled(logits: Float[Tensor, "samples classes"]) -> Float[Tensor, "samples classes"]:
    """Return logits in a fixed random order: images sorted by class would otherwise fill one split per class."""
    return logits[torch.from_numpy(numpy_generator(0, "inception score").permutation(len(logits)))]


def inception_score(logits: Float[Tensor, "samples classes"], splits: int = SPLITS) -> tuple[float, float]:
    """Return the mean and standard deviation of exp(mean KL(p(class|image) || p(class))) over consecutive splits.

    For 50,000 samples, ten splits hold 5,000 images each, as in ADM. Raises ValueError for fewer samples than splits.
    """
    if len(logits) < splits:
        raise ValueError(f"{splits} splits need at least {splits} samples, found {len(logits)}")
    log_p = logits.double().log_softmax(dim=1)
    bounds = [i * len(logits) // splits for i in range(splits + 1)]
    scores = torch.stack([_score(log_p[a:b]) for a, b in zip(bounds, bounds[1:], strict=False)])
    return float(scores.mean()), float(scores.std(unbiased=False))


def _score(log_p: Tensor) -> Tensor:
    p = log_p.exp()
    return (p * (log_p - p.mean(dim=0, keepdim=True).log())).sum(dim=1).mean().exp()
