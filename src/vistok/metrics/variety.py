"""Do samples differ from each other? Duplicate latents, duplicate pictures, and variance."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from jaxtyping import UInt8
from torch import Tensor

from vistok.metrics.spread import Spread


@dataclass(frozen=True)
class Variety:
    """Of `count` samples: the distinct latents and pictures, and how many show the most common picture.

    `variance`: over samples (values in 0...1), averaged over pixels.
    """

    count: int
    distinct_grids: int
    distinct_pictures: int
    commonest: int
    variance: float


class Drawn:
    """Collected while samples are drawn: a digest of each, and sums of pixels."""

    def __init__(self) -> None:
        self.grids: Counter[bytes] = Counter()
        self.pictures: Counter[bytes] = Counter()
        self.spread = Spread()

    def add(self, latents: Tensor, images: UInt8[Tensor, "batch channels height width"]) -> None:
        """Add a batch: latents and the images decoded from them."""
        self.grids.update(_digests(latents))
        self.pictures.update(_digests(images))
        self.spread.add(images)


def _digests(rows: Tensor) -> list[bytes]:
    return [blake2b(row.tobytes(), digest_size=16).digest() for row in rows.cpu().contiguous().numpy()]


def variety(parts: Sequence[Drawn]) -> Variety:
    """Return the variety of all samples, drawn by one or more processes."""
    grids: Counter[bytes] = Counter()
    pictures: Counter[bytes] = Counter()
    for part in parts:
        grids.update(part.grids)
        pictures.update(part.pictures)
    spread = Spread.joined([part.spread for part in parts])
    commonest = max(pictures.values(), default=0)
    return Variety(pictures.total(), len(grids), len(pictures), commonest, spread.variance())
