"""The nearest of many centres by distance, exactly: what rounding could turn is decided in double precision."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

# Distances computed at once, 2 MB in float32 or at least 32 rows: what stays in a core's cache is cheap to read again.
ELEMENTS, ROWS = 2**19, 32
# Centres of each vector that are compared again in double precision.
CANDIDATES = 4


@torch.no_grad()
def nearest_centres(
    vectors: Float[Tensor, "vectors dim"], centres: Float[Tensor, "codes dim"]
) -> Int[Tensor, "vectors"]:
    """Return the number of the centre at the least distance from each vector; ties go to the lowest number.

    Products in single precision pick a few candidates; their distances in double precision decide. Where more centres than
    that lie within single precision's rounding of the least distance, one of them is returned.
    """
    kept = min(CANDIDATES, len(centres))
    # Minimising |v - c|^2 is minimising |c|^2 - 2 v.c; about the centres' mean, where numbers are small, rounding is least.
    middle = centres.mean(dim=0)
    moved = centres - middle
    squares = moved.square().sum(dim=1)
    rows = max(1, len(vectors)) if vectors.is_meta else max(ROWS, ELEMENTS // len(centres))
    found = []
    for part in vectors.split(rows):
        rough = torch.addmm(squares, part - middle, moved.T, alpha=-2)
        numbers = rough.topk(kept, dim=1, largest=False).indices.sort(dim=1).values
        exact = (part.double()[:, None] - centres[numbers].double()).square().sum(dim=-1)
        found.append(numbers.gather(1, exact.argmin(dim=1, keepdim=True))[:, 0])
    return torch.cat(found) if found else vectors.new_empty(0, dtype=torch.int64)
