"""MeanFlow (Geng et al. 2025, arXiv 2505.13447): a network of average velocities, trained without a teacher.

From t to r the average velocity u satisfies u = v + (r - t) du/dt, with the derivative along the path; the right side, which
takes the network's own derivative, is the target. The derivative is computed apart from the loss and without gradients:
forward-mode differentiation bypasses what several processes do to average gradients.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from vistok.engine.distributed import ALONE, World
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss
from vistok.errors import UserError
from vistok.generator.conditioning import require_label_dropout
from vistok.nn.precision import in_float32
from vistok.rng import normal_grid
from vistok.shortcut.base import Given, Shortcut, ShortcutTraining, spread
from vistok.units import Scale

# Added to the squared error before it divides the loss, and of its mean in the numbers of an image.
LEAST = 1e-3
# The greatest factor of times whose embedding still changes evenly over the differences that are taken.
SMOOTH = 100.0


class MeanFlow(Shortcut):
    """Times and ends of steps from a logit-normal; most steps have no length, which is ordinary flow matching."""

    def __init__(self, run: ShortcutTraining, given: Given, device: torch.device, world: World = ALONE) -> None:
        super().__init__(run, given, device, world)
        network = self.network_config
        if network.predicts != "velocity" or network.path == "ddpm" or network.time_scale > SMOOTH:
            raise UserError(
                "a mean flow predicts velocities on a linear or cosine path, and is differentiated in time: generator.time_scale at most "
                f"{SMOOTH:g}; found predicts {network.predicts!r}, path {network.path!r}, time_scale {network.time_scale:g}; begin from recipe "
                "fashion_mean_flow"
            )
        require_label_dropout(network.label_dropout, self.config.guidance_scale)

    def phases(self, scale: Scale, world: World = ALONE) -> list[Phase]:
        """Return the only phase."""
        return [self.phase("generator", self.model, self._loss, scale)]

    def _loss(self, micro: MicroBatch, step: int) -> PhaseLoss:
        keys = micro["positions"]
        data, noise = self.model.normalised(micro["latents"]), self.noise(keys)
        now, until = self._times(keys)
        labels, dropped = self.some_dropped(keys, micro["labels"])
        x = self.process.at(data, noise, spread(now))
        with torch.no_grad():
            velocity = self._guided(self.process.target("velocity", data, noise, spread(now)), x, now, labels, dropped)
            target = velocity + spread(until - now) * self._derivative(x, velocity, now, until, labels)
        error = (self._average(x, now, until, labels) - target).square().mean(dim=(1, 2))
        weight = (error.detach() + LEAST).pow(-self.config.power)
        return PhaseLoss({"mean_flow_loss": (weight * error).mean()}, {"squared_error": error.detach().mean()})

    def _times(self, keys: Tensor) -> tuple[Float[Tensor, "batch"], Float[Tensor, "batch"]]:
        """Return where steps begin and end."""
        drawn = [torch.sigmoid(normal_grid(self.seed, keys, number, ()) - 0.4) for number in (1, 2)]
        # The paper's times run from data to noise.
        one, other = (1 - time for time in drawn)
        now, until = torch.minimum(one, other), torch.maximum(one, other)
        return now, torch.where(self.even(keys, "instant") < self.config.instantaneous, now, until)

    def _average(self, x: Tensor, now: Tensor, until: Tensor, labels: Tensor) -> Tensor:
        """Return the average velocity of a step."""
        return self.model.network(x, now, labels, {"until": until}).float()

    def _guided(self, velocity: Tensor, x: Tensor, now: Tensor, labels: Tensor, dropped: Tensor) -> Tensor:
        """Return velocities moved away from those without a class, where there is one (equation 19, kappa 0)."""
        scale = self.config.guidance_scale
        if scale == 1.0:
            return velocity
        without = self._average(x, now, now, torch.full_like(labels, self.model.network.classes.null_label))
        return torch.where(spread(dropped), velocity, without + scale * (velocity - without))

    def _derivative(self, x: Tensor, velocity: Tensor, now: Tensor, until: Tensor, labels: Tensor) -> Tensor:
        """Return du/dt along the path, at fixed ends of steps."""

        def average(at: Tensor, time: Tensor) -> Tensor:
            return self._average(at, time, until, labels)

        if self.config.derivative == "forward_mode":
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # the others have none
                return torch.func.jvp(average, (x, now), (velocity, torch.ones_like(now)))[1]
        h = self.config.difference
        with in_float32(x):  # sixteen bits would round away most of so small a difference
            ahead, behind = average(x + h * velocity, now + h), average(x - h * velocity, now - h)
        return (ahead - behind) / (2 * h)
