"""Are samples different pictures? Equal latents and pictures among them, and their variance."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from jaxtyping import UInt8
from torch import Tensor

from vistok.metrics.spread import Spread


@dataclass(frozen=True)
class Variety:
    """Of `count` samples: different latents and pictures, the samples that show the commonest picture, variance.

    variance: over samples, averaged over pixels, of values in 0...1.
    """

    count: int
    distinct_grids: int
    distinct_pictures: int
    commonest: int
    variance: float


class Drawn:
    """What is counted while samples are drawn: a digest of each, and sums."""

    def __init__(self) -> None:
        self.grids: Counter[bytes] = Counter()
        self.pictures: Counter[bytes] = Counter()
        self.spread = Spread()

    def add(self, latents: Tensor, images: UInt8[Tensor, "batch channels height width"]) -> None:
        """Count a batch in: the latents and what they were decoded into."""
        self.grids.update(_digests(latents))
        self.pictures.update(_digests(images))
        self.spread.add(images)


def _digests(rows: Tensor) -> list[bytes]:
    return [blake2b(row.tobytes(), digest_size=16).digest() for row in rows.cpu().contiguous().numpy()]


def variety(parts: Sequence[Drawn]) -> Variety:
    """Return the variety of all samples, which one or several processes drew."""
    grids: Counter[bytes] = Counter()
    pictures: Counter[bytes] = Counter()
    for part in parts:
        grids.update(part.grids)
        pictures.update(part.pictures)
    spread = Spread.joined([part.spread for part in parts])
    commonest = max(pictures.values(), default=0)
    return Variety(pictures.total(), len(grids), len(pictures), commonest, spread.variance())
