"""What it costs to generate an image: network calls, FLOPs, milliseconds."""

from dataclasses import asdict, dataclass
from typing import Any

from vistok.errors import in_digits


@dataclass(frozen=True)
class Cost:
    """Cost of one image. A call is one forward pass of the network; guidance needs two.

    `flops` counts the generator and `decoder_flops` the tokenizer's decoder: 2 per multiply-add, counted from the operations
    that run. `milliseconds` covers both, measured while drawing `images` images on `hardware`, `batch` at a time; where
    `images` is 0 it was not measured.
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
        """FLOPs of the generator and the decoder together."""
        return self.flops + self.decoder_flops

    def to_json(self) -> dict[str, Any]:
        """Return the cost as stored in an evaluation file."""
        return {"flops_per_image": self.flops_per_image, "ms_per_image": self.milliseconds, **asdict(self)}

    def __str__(self) -> str:
        calls = f"{self.calls:g}" if self.calls == int(self.calls) else f"{self.calls:.1f}"
        counted = f"{calls} call{'s' * (self.calls != 1)} and {flops_in_words(self.flops_per_image)} an image"
        if not self.images:
            return counted
        return f"{counted}, {in_digits(self.milliseconds)} ms on {self.hardware}, {self.batch} at once"


def flops_in_words(count: float) -> str:
    """Return a count as text, as in "3.2 GFLOPs"."""
    for size, name in ((1e12, "T"), (1e9, "G"), (1e6, "M")):
        if count >= size:
            return f"{count / size:.3g} {name}FLOPs"
    return f"{count:.3g} FLOPs"


def cost_in(evaluation: dict[str, Any]) -> Cost | None:
    """Return the cost in an evaluation; None for evaluations of earlier versions, which have none."""
    cost = evaluation.get("cost")
    if not isinstance(cost, dict):
        return None
    return Cost(**{name: cost[name] for name in Cost.__dataclass_fields__})
