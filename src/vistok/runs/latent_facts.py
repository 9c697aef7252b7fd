"""What a generator must know of the latents that it learns."""

from dataclasses import dataclass
from typing import Any

from vistok.data.latents.cache import LatentCache
from vistok.space import Space


@dataclass(frozen=True)
class LatentFacts:
    """Their space, and the number of classes."""

    space: Space
    num_classes: int

    @classmethod
    def of(cls, cache: LatentCache) -> "LatentFacts":
        """Return what a cache says."""
        return cls(cache.manifest.space, len(cache.manifest.class_names))

    def to_json(self) -> dict[str, Any]:
        """Return it as a header says it."""
        return {"space": self.space.model_dump(mode="json"), "num_classes": self.num_classes}
