"""Guidance in one call: a student told the scale learns what its teacher says in two (arXiv 2210.03142, equation 3)."""

import torch

from vistok.engine.distributed import ALONE, World
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss
from vistok.shortcut.base import (
    Shortcut,
    ends_of,
    greatest_error,
    guided_prediction,
    spread,
)
from vistok.units import Scale


class Guided(Shortcut):
    """Even random scales and times; the error of the predicted data, or of the noise where that is greater.

    A network that predicts noise is held to the noise: what it says of the data is divided by the signal, of which DDPM's path keeps a
    two-hundredth, and a few times would be all that counts.
    """

    def phases(self, scale: Scale, world: World = ALONE) -> list[Phase]:
        """Return the only phase."""
        return [self.phase("generator", self.model, self._loss, scale, [self.reference])]

    def _loss(self, micro: MicroBatch, step: int) -> PhaseLoss:
        keys, labels = micro["positions"], micro["labels"]
        low, high = self.config.scales
        times, scales = self.process.trained_at(self.even(keys, "time")), low + (high - low) * self.even(keys, "scale")
        data = self.model.normalised(micro["latents"])
        x = self.process.at(data, self.noise(keys), spread(times))
        with torch.no_grad():
            theirs = ends_of(self.reference, guided_prediction(self.reference, x, times, labels, scales), x, times)
        network = self.model.network
        ours = ends_of(network, network(x, times, labels, {"scale": scales}).float(), x, times)
        held_to = (1,) if network.config.predicts == "noise" else (0, 1)  # data and noise
        error = greatest_error([ours[end] for end in held_to], [theirs[end] for end in held_to])
        return PhaseLoss({"distillation_loss": error.mean()})
