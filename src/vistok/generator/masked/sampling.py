"""Sampling by filling in: each step draws codes for masked tokens, and keeps those it is most confident of.

All noise is keyed by (seed, image, step), so a sample depends only on its seed and number. Batch size and number of
processes do not change it, unless two codes are so close that another batch size's rounding swaps them.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vistok.generator.codes import choose, guide
from vistok.generator.masked.config import MaskedSampling
from vistok.generator.masked.network import MaskedNetwork
from vistok.generator.masked.schedule import guidance_scales
from vistok.rng import to_gumbel, uniform_grid


@torch.no_grad()
def fill_in(
    network: MaskedNetwork,
    left: list[int],
    labels: Int[Tensor, "batch"],
    image_ids: Int[Tensor, "batch"],
    sampling: MaskedSampling,
) -> Int[Tensor, "batch positions"]:
    """Draw tokens; `left`: how many are masked before the first step and after each. The network is in evaluation mode."""
    num_tokens, steps = left[0], len(left) - 1
    tokens = torch.full((len(labels), num_tokens), network.mask, device=labels.device)
    order = uniform_grid(sampling.seed, image_ids, 0, num_tokens, "order").argsort(dim=1)
    for step, scale in enumerate(guidance_scales(sampling, steps)):
        before, after = left[step], left[step + 1]
        noise = sampling.choice_temperature * (1 - (step + 1) / steps)
        if sampling.order == "random":
            places = order[:, num_tokens - before : num_tokens - after]
        else:
            places = _masked_places(tokens, network.mask, before)
        logits = _logits(network, tokens, labels, places, scale)
        drawn = _draw(logits, places, image_ids, step, num_tokens, _at(sampling, noise))
        if sampling.order == "confidence":
            sure = _confidence(logits, drawn, sampling)
            gumbel = to_gumbel(uniform_grid(sampling.seed, image_ids, step, num_tokens, "confidence"))
            kept = (sure + noise * gumbel.gather(1, places)).topk(before - after, dim=1).indices
            places, drawn = places.gather(1, kept), drawn.gather(1, kept)
        tokens.scatter_(1, places, drawn)
    return tokens


def _masked_places(tokens: Int[Tensor, "batch positions"], mask: int, count: int) -> Int[Tensor, "batch masked"]:
    """Return where an image's masked tokens are, in order; every image has the same number of them."""
    return (tokens != mask).byte().sort(dim=1, stable=True).indices[:, :count]


def _logits(
    network: MaskedNetwork, tokens: Tensor, labels: Tensor, places: Tensor, scale: float
) -> Float[Tensor, "batch masked codes"]:
    """Return logits at these places, guided by a scale; guidance runs as a single batch of twice the size."""
    if scale == 1.0:
        return network(tokens, labels, places).float()
    without = torch.full_like(labels, network.classes.null_label)
    both = network(tokens.repeat(2, 1), torch.cat([labels, without]), places.repeat(2, 1)).float()
    conditional, unconditional = both.chunk(2)
    return guide(conditional, unconditional, scale)


def _at(sampling: MaskedSampling, noise: float) -> MaskedSampling:
    """Return the sampling of codes in a step with this much noise in the choice of tokens."""
    if sampling.convention == "maskgit":
        return sampling
    return sampling.replace(temperature=sampling.temperature * noise)


def _draw(
    logits: Float[Tensor, "batch masked codes"],
    places: Int[Tensor, "batch masked"],
    image_ids: Int[Tensor, "batch"],
    step: int,
    num_tokens: int,
    sampling: MaskedSampling,
) -> Int[Tensor, "batch masked"]:
    """Draw a code at each place, with noise of this step and place."""
    keys = step * num_tokens + places
    images = image_ids[:, None].expand_as(places)
    return choose(logits.flatten(0, 1), images.flatten(), keys.flatten(), sampling).view_as(places)


def _confidence(
    logits: Float[Tensor, "batch masked codes"], drawn: Int[Tensor, "batch masked"], sampling: MaskedSampling
) -> Float[Tensor, "batch masked"]:
    """Return how sure the network is of each code drawn."""
    score = logits if sampling.convention == "titok" else logits.log_softmax(dim=-1)
    return score.gather(-1, drawn[..., None])[..., 0]
