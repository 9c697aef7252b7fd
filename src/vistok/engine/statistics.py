"""What training steps measure. It stays on the device until it is read, so that no step waits for the device."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vistok.engine.distributed import World
from vistok.engine.phase import PhaseLoss

# The names of a vector's parts, each with its shape.
_Parts = list[tuple[str, torch.Size]]


@dataclass(frozen=True)
class NotFinite:
    """The first step with a number that is not finite, and the names of such numbers."""

    step: int
    names: tuple[str, ...]


class Statistics:
    """The numbers of all steps since the last reading; a step's is the sum over its micro-batches and processes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._phases: dict[str, tuple[_Parts, Tensor]] = {}
        self._same: dict[str, Tensor] = {}
        self._steps: list[tuple[int, _Parts, Tensor]] = []

    @torch.no_grad()
    def add(self, phase: str, total: Tensor, loss: PhaseLoss, share: float) -> None:
        """Add a micro-batch, which is this share of the batch."""
        numbers = {"loss": total, **loss.terms, **loss.statistics}
        numbers |= {name: _moments(vectors) for name, vectors in loss.spreads.items()}
        parts = [(f"{phase}/{name}", number.shape) for name, number in numbers.items()]
        vector = torch.cat([number.detach().float().flatten() for number in numbers.values()]) * share
        if phase in self._phases:
            vector += self._phases[phase][1]
        self._phases[phase] = parts, vector

    def add_same(self, name: str, number: Tensor) -> None:
        """Add a number of the whole step that is the same on all processes."""
        self._same[name] = number.detach().float() / self._world.size

    def close(self, step: int) -> None:
        """End a step."""
        parts = [part for found, _ in self._phases.values() for part in found]
        parts += [(name, number.shape) for name, number in self._same.items()]
        vectors = [vector for _, vector in self._phases.values()]
        vectors += [number.flatten() for number in self._same.values()]
        self._steps.append((step, parts, torch.cat(vectors)))
        self._phases, self._same = {}, {}

    def read(self) -> tuple[dict[str, float], NotFinite | None]:
        """Return the newest step's numbers, and the first step since the last reading at which one was not finite.

        This waits for the device, and all processes take part.
        """
        steps, self._steps = self._steps, []
        if not steps:
            return {}, None
        numbers = self._world.sum(torch.cat([vector for _, _, vector in steps])).cpu()
        rows = [_row(parts, numbers) for parts, numbers in _cut(steps, numbers)]
        wrong = [
            NotFinite(step, names)
            for (step, _, _), row in zip(steps, rows, strict=True)
            if (names := tuple(name for name, number in row.items() if not number.isfinite()))
        ]
        return {name: float(number) for name, number in rows[-1].items()}, wrong[0] if wrong else None


def _cut(steps: Sequence[tuple[int, _Parts, Tensor]], numbers: Tensor) -> Iterator[tuple[_Parts, Tensor]]:
    lengths = [len(vector) for _, _, vector in steps]
    return zip((parts for _, parts, _ in steps), numbers.split(lengths), strict=True)


def _row(parts: _Parts, numbers: Tensor) -> dict[str, Tensor]:
    lengths = [shape.numel() for _, shape in parts]
    return {
        name: _number(found.view(shape)) for (name, shape), found in zip(parts, numbers.split(lengths), strict=True)
    }


def _moments(vectors: Tensor) -> Tensor:
    """Return the mean and the mean square of vectors (..., dim), (2, dim): both can be summed over parts of a batch."""
    vectors = vectors.detach().float().flatten(0, -2)
    return torch.stack([vectors.mean(0), vectors.square().mean(0)])


def _number(found: Tensor) -> Tensor:
    """Return a number as it is, and moments as a variance."""
    if not found.dim():
        return found
    mean, square = found.double()
    variance = (square - mean.square()).mean()
    return variance.clamp(min=0)
