"""A student on another path, or with another prediction, than its teacher (YOSO's quick adaptation, arXiv 2403.12931, section 4.3).

Teachers that predict noise, on paths that begin with a little of the data (DDPM's), say nothing of the data where one call starts.
The student predicts velocities; at each of its times the teacher is asked at its own time of the same signal-to-noise ratio.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from vistok.engine.distributed import ALONE, World
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss
from vistok.nn.process import PROCESSES, Process
from vistok.shortcut.base import Shortcut, ends_of, greatest_error, spread
from vistok.units import Scale

# Halvings of the interval in which the teacher's time lies: to 1e-7.
HALVINGS = 24


class Adaptation(Shortcut):
    """The error of the student's data or noise, against what the teacher sees in the same mixture of both."""

    def phases(self, scale: Scale, world: World = ALONE) -> list[Phase]:
        """Return the only phase."""
        return [self.phase("generator", self.model, self._loss, scale, [self.reference])]

    def _loss(self, micro: MicroBatch, step: int) -> PhaseLoss:
        keys, network = micro["positions"], self.model.network
        times = self.process.trained_at(self.even(keys, "time"))
        x = self.process.at(self.model.normalised(micro["latents"]), self.noise(keys), spread(times))
        labels, _ = self.some_dropped(keys, micro["labels"])
        with torch.no_grad():
            path = PROCESSES[self.reference.config.path]
            theirs_at = same_ratio(self.process, path, times)
            mixed = x * spread(size_of(path, theirs_at) / size_of(self.process, times))
            theirs = ends_of(self.reference, self.reference(mixed, theirs_at, labels).float(), mixed, theirs_at)
        ours = ends_of(network, network(x, times, labels).float(), x, times)
        return PhaseLoss({"distillation_loss": greatest_error(ours, theirs).mean()})


def size_of(path: Process, t: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """Return the length of (alpha, sigma), by which mixtures of equal ratio on two paths differ."""
    return torch.hypot(path.alpha(t), path.sigma(t))


def same_ratio(ours: Process, theirs: Process, t: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """Return the times at which another path has the same ratio of data to noise, or its nearest: that of its ends."""
    angle = torch.atan2(ours.alpha(t), ours.sigma(t))
    low, high = torch.zeros_like(t), torch.ones_like(t)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = torch.atan2(theirs.alpha(middle), theirs.sigma(middle)) > angle
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    return theirs.trained_at((low + high) / 2)
