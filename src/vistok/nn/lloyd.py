"""K-means over more vectors than fit into memory (Lloyd 1982): passes over batches, in any order and on any number of processes.

Sums are kept as whole numbers, so that the order in which they are added, and by whom, changes no bit of a centre.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vistok.nn.nearest import nearest_centres

# Whole numbers of 63 bits hold 2^32 vectors of values up to the scale's limit.
LIMIT = 2.0**30
# Values may exceed the largest one that the scale was chosen for by this factor.
MARGIN = 16.0
# How far the halves of a cluster that is split lie from its centre, as a share (faiss).
APART = 1 / 1024


def scale_for(vectors: Float[Tensor, "vectors dim"]) -> float:
    """Return the power of two that turns values like these into whole numbers: about as exact as single precision."""
    largest = float(vectors.abs().max()) * MARGIN
    return 2.0 ** math.floor(math.log2(LIMIT / largest)) if largest > 0 else 1.0


class Sums:
    """The sum and number of vectors in each cluster, and the sum of their squared distances to its centre."""

    def __init__(self, centres: Float[Tensor, "codes dim"], scale: float) -> None:
        self.centres, self.scale = centres, scale
        self.sums = torch.zeros(centres.shape, dtype=torch.int64, device=centres.device)
        self.counts = torch.zeros(len(centres), dtype=torch.int64, device=centres.device)
        self.distance = torch.zeros((), dtype=torch.float64, device=centres.device)

    def add(self, vectors: Float[Tensor, "vectors dim"]) -> None:
        """Include vectors."""
        cluster = nearest_centres(vectors, self.centres)
        self.sums.index_add_(0, cluster, (vectors.double() * self.scale).round().long())
        self.counts += torch.bincount(cluster, minlength=len(self.counts))
        self.distance += (vectors - self.centres[cluster]).square().sum(dtype=torch.float64)

    def moved(self, generator: torch.Generator) -> Float[Tensor, "codes dim"]:
        """Return the new centres: means of their vectors. A centre without vectors takes half of another cluster.

        As in faiss, that cluster is drawn with probability in proportion to its size, and both lie beside its centre.
        """
        centres = (self.sums.double() / self.scale / self.counts.clamp(min=1)[:, None]).float()
        for empty in torch.nonzero(self.counts == 0).flatten().tolist():
            chances = (self.counts - 1).clamp(min=0).double().cpu()
            if not bool(chances.sum() > 0):
                break  # fewer different vectors than centres
            split = int(torch.multinomial(chances, 1, generator=generator))
            signs = torch.where(torch.arange(centres.shape[1], device=centres.device) % 2 == 0, 1.0, -1.0)
            centres[empty] = centres[split] * (1 + APART * signs)
            centres[split] = centres[split] * (1 - APART * signs)
            self.counts[empty] = self.counts[split] // 2
            self.counts[split] -= self.counts[empty]
        return centres
