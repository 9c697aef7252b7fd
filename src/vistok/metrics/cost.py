"""What an image costs its generator: calls of the network, FLOPs, milliseconds."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Cost:
    """Of one image. A call is one forward pass of the network (two where guidance doubles it).

    `flops` are of the generator, `decoder_flops` of the tokenizer's decoder, 2 for each multiply-add, counted from what is
    executed. `milliseconds` are of both, measured while `images` were drawn `batch` at a time on `hardware`; 0 images: not
    measured.
    """

    calls: float
    flops: float
    decoder_flops: float
    milliseconds: float
    images: int
    batch: int
    hardware: str

    @property
    def flops_per_image(self) -> float:
        """FLOPs of generator and decoder."""
        return self.flops + self.decoder_flops

    def to_json(self) -> dict[str, Any]:
        """Return it as an evaluation's file holds it."""
        return {"flops_per_image": self.flops_per_image, "ms_per_image": self.milliseconds, **asdict(self)}

    def __str__(self) -> str:
        calls = f"{self.calls:g}" if self.calls == int(self.calls) else f"{self.calls:.1f}"
        counted = f"{calls} call{'s' * (self.calls != 1)} and {_flops(self.flops_per_image)} an image"
        if not self.images:
            return counted
        return f"{counted}, {self.milliseconds:.3g} ms on {self.hardware}, {self.batch} at once"


def _flops(count: float) -> str:
    for size, name in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if count >= size:
            return f"{count / size:.3g} {name}FLOPs"
    return f"{count:.3g} FLOPs"


def cost_in(evaluation: dict[str, Any]) -> Cost | None:
    """Return what an evaluation says of cost; None for those of earlier versions."""
    found = evaluation.get("cost")
    if not isinstance(found, dict):
        return None
    return Cost(**{name: found[name] for name in Cost.__dataclass_fields__})
