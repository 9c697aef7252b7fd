"""K-means: codes that begin where the latents are (Lloyd 1982)."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

ITERATIONS = 10


@torch.no_grad()
def kmeans(
    vectors: Float[Tensor, "vectors dim"],
    num_codes: int,
    nearest: Callable[[Tensor, Tensor], Int[Tensor, "vectors"]],
    place: Callable[[Tensor], Tensor],
    generator: torch.Generator,
    iterations: int = ITERATIONS,
) -> Float[Tensor, "codes dim"]:
    """Return the centres of `num_codes` clusters of vectors.

    `nearest(vectors, codes)` gives each vector's cluster, `place` puts centres where codes may lie (the unit sphere).
    Begins at random vectors; a cluster that loses all of its own begins anew at another. With fewer vectors than codes
    some codes are equal.
    """
    codes = vectors[_drawn(len(vectors), num_codes, generator, vectors.device)].clone()
    for _ in range(iterations):
        cluster = nearest(vectors, codes)
        sums = torch.zeros_like(codes).index_add_(0, cluster, vectors)
        counts = torch.bincount(cluster, minlength=num_codes)
        codes = place(sums / counts.clamp(min=1)[:, None])
        empty = torch.nonzero(counts == 0).flatten()
        codes[empty] = vectors[_drawn(len(vectors), len(empty), generator, vectors.device)]
    return codes


def _drawn(count: int, wanted: int, generator: torch.Generator, device: torch.device) -> Int[Tensor, "wanted"]:
    """Return numbers below `count`, each once as long as there are enough."""
    rounds = [torch.randperm(count, generator=generator) for _ in range(-(-wanted // count))]
    return torch.cat([*rounds, torch.empty(0, dtype=torch.int64)])[:wanted].to(device)
