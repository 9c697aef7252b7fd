"""What a generator must know about the latents that it learns."""

from dataclasses import dataclass
from typing import Any

from vistok.data.latents.cache import LatentCache
from vistok.space import Space


@dataclass(frozen=True)
class LatentFacts:
    """The latents' space, and the number of classes."""

    space: Space
    num_classes: int

    @classmethod
    def of(cls, cache: LatentCache) -> "LatentFacts":
        """Return the facts recorded in a cache."""
        return cls(cache.manifest.space, len(cache.manifest.class_names))

    def to_json(self) -> dict[str, Any]:
        """Return the facts as a header stores them."""
        return {"space": self.space.model_dump(mode="json"), "num_classes": self.num_classes}
