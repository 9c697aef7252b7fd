"""The likelihood of a cache's latents, or another loss of them, and how often each code occurs."""

from typing import Any

import numpy as np
import torch

from vistok.data.evenly import evenly
from vistok.data.latents.cache import AGAIN, LatentCache
from vistok.errors import UserError
from vistok.metrics.likelihood import Likelihood, likelihood
from vistok.nn.evaluation import in_evaluation
from vistok.rng import stable_choice

BATCH = 250
COUNTED_ROWS = 50_000
# Losses that a mean of held-out losses is made of: the loss at one time, or under one mask, varies much.
LEAST = 200


@torch.inference_mode()
def validation_likelihood(model: Any, cache: LatentCache, device: torch.device, limit: int | None = None) -> Likelihood:
    """Return the likelihood of a cache's images (their central view), or of `limit` random ones, in evaluation mode.

    The random images are the same every time; taking the first ones instead might give a single class.
    """
    with in_evaluation(model):
        rows = held_out_rows(cache, limit)
        nats = []
        for start in range(0, len(rows), BATCH):
            batch = cache.batch(rows[start : start + BATCH])
            nats.append(model.nats(batch["latents"].to(device), batch["labels"].to(device)).cpu().numpy())
    return likelihood(np.concatenate(nats))


@torch.inference_mode()
def held_out_losses(model: Any, cache: LatentCache, device: torch.device, limit: int | None = None) -> dict[str, float]:
    """Return the mean losses of a cache's images, or of `limit` random ones, in evaluation mode; vectors at their means.

    A model takes the time, noise or mask of an image from its number; few images are therefore measured under several numbers.
    """
    with in_evaluation(model):
        rows, sums = held_out_rows(cache, limit), dict[str, list[float]]()
        times = -(-LEAST // max(1, len(rows)))
        rows, again = rows.repeat(times), np.tile(np.arange(times), len(rows))
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            batch = {name: tensor.to(device) for name, tensor in cache.batch(some).items()}
            images = some // cache.num_views * times + again[start : start + BATCH]  # whatever views the cache has
            found = model.held_out(batch["latents"], batch["labels"], torch.from_numpy(images).to(device))
            for name, losses in found.items():
                total, count = sums.get(name, [0.0, 0.0])
                sums[name] = [total + float(losses.double().sum()), count + len(losses)]
    return {name: total / count for name, (total, count) in sums.items() if count}


def held_out_rows(cache: LatentCache, limit: int | None) -> np.ndarray:
    """Return the rows of a cache's images in their central view, or those of `limit` random images."""
    chosen = stable_choice(0, "likelihood", cache.num_images, limit or cache.num_images)
    return chosen * cache.num_views + cache.central_view


def code_counts(cache: LatentCache, rows: np.ndarray | None = None) -> np.ndarray:
    """Return how often each code occurs in these rows of a cache; None: in at most 50,000 rows, evenly spread."""
    if rows is None:
        rows = evenly(len(cache.latents), COUNTED_ROWS)
    space = cache.manifest.space
    assert space.kind == "tokens"
    counts = np.zeros(space.codebook_size, dtype=np.int64)
    for start in range(0, len(rows), BATCH):
        found = np.bincount(np.asarray(cache.latents[rows[start : start + BATCH]]).ravel(), minlength=len(counts))
        if len(found) > len(counts):
            raise UserError(
                f"token cache {cache.folder}: it holds the token {len(found) - 1}, but there are {len(counts):,} codes; {AGAIN}"
            )
        counts += found
    return counts
