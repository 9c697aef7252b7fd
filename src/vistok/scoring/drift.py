"""How far a shortened generator's samples have drifted from the latents that they should look like."""

from typing import Any

import torch

from vistok.data.latents.cache import LatentCache
from vistok.scoring.nats import held_out_rows

SAMPLES = 250


@torch.inference_mode()
def drift(model: Any, cache: LatentCache, device: torch.device, count: int = SAMPLES) -> dict[str, float]:
    """Return how varied samples are, of held-out latents 1, and how far their mean is off, in deviations of those.

    `sample_spread`: the mean over a latent's numbers of the samples' deviation over the data's; 0 if all samples are one picture.
    `sample_shift`: root mean square of the difference of means; about (2 / count) ** 0.5 where there is none. Of generators
    without a likelihood or another held-out loss, this is what training can tell as it goes.
    """
    rows = held_out_rows(cache, min(count, cache.num_images))
    batch = cache.batch(rows)
    data, labels = batch["latents"].to(device).double(), batch["labels"].to(device)
    drawn = model.sample(labels, torch.arange(len(labels), device=device)).double()
    # Numbers that never vary in a few images say nothing of variety.
    deviation = data.std(dim=0)
    deviation = deviation.clamp(min=0.1 * float(deviation.mean()) + 1e-12)
    return {
        "sample_spread": float((drawn.std(dim=0) / deviation).mean()),
        "sample_shift": float(((drawn.mean(dim=0) - data.mean(dim=0)) / deviation).square().mean().sqrt()),
    }
