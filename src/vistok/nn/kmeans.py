"""K-means, to start the codebook where the latents are (Lloyd 1982)."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

ITERATIONS = 10
ROUNDS = 64


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

    `nearest(vectors, codes)` returns the cluster of each vector; `place` projects centres to where codes are allowed (the
    unit sphere). The initial centres are vectors spread far apart (k-means++, Arthur and Vassilvitskii 2007; drawn in
    rounds, as in Bahmani et al. 2012). An empty cluster restarts at a random vector. With fewer vectors than codes, some
    codes are equal.
    """
    codes = spread_apart(vectors, num_codes, generator)
    for _ in range(iterations):
        cluster = nearest(vectors, codes)
        sums = torch.zeros_like(codes).index_add_(0, cluster, vectors)
        counts = torch.bincount(cluster, minlength=num_codes)
        codes = place(sums / counts.clamp(min=1)[:, None])
        empty = torch.nonzero(counts == 0).flatten()
        drawn = torch.randint(len(vectors), (len(empty),), generator=generator)
        codes[empty] = vectors[drawn.to(vectors.device)]
    return codes


@torch.no_grad()
def spread_apart(
    vectors: Float[Tensor, "vectors dim"], count: int, generator: torch.Generator
) -> Float[Tensor, "codes dim"]:
    """Draw vectors in rounds, each with probability proportional to its squared distance from those of earlier rounds."""
    drawn = torch.randint(len(vectors), (1,), generator=generator)
    distance = (vectors - vectors[drawn[0]]).square().sum(-1)
    while len(drawn) < count:
        # Rounding leaves a small distance even for vectors drawn already. If all distances are zero, any vector will do.
        chances = distance.double().cpu()
        chances = chances if bool(chances.sum() > 0) else torch.ones_like(chances)
        new = torch.multinomial(chances, min(-(-count // ROUNDS), count - len(drawn)), True, generator=generator)
        drawn = torch.cat([drawn, new])
        nearest = torch.cdist(vectors, vectors[new.to(vectors.device)]).amin(dim=1)
        distance = torch.minimum(distance, nearest.square())
    return vectors[drawn.to(vectors.device)].clone()
