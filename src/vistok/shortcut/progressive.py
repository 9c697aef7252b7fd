"""Progressive distillation: one step of the student learns where two steps of its teacher lead, then it becomes the teacher.

Salimans and Ho (2022, arXiv 2202.00512, algorithm 2); with guidance and the stochastic sampler Meng et al. (2022, arXiv 2210.03142,
algorithms 2 and 3). Both samplers are for networks that keep predicted data and noise over a step (DDIM).
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vistok.engine.distributed import ALONE, World
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss
from vistok.engine.schedule import Schedule, make_schedule
from vistok.errors import UserError
from vistok.nn.process import Process
from vistok.shortcut.base import (
    Given,
    Shortcut,
    ShortcutTraining,
    ends_of,
    greatest_error,
    guided_prediction,
    spread,
)
from vistok.units import Scale

# Rounds to this many steps and fewer are trained longer, as in the paper (100,000 updates in place of 50,000).
FEW, LONGER = 2, 2
# (noisy vectors, times) -> the data and the noise that the teacher sees in them
Ends = Callable[[Tensor, Float[Tensor, "batch"]], tuple[Tensor, Tensor]]


class Progressive(Shortcut):
    """Rounds of halving. At the end of each, the teacher gets the student's weights; the learning rate falls to zero in each."""

    def __init__(self, run: ShortcutTraining, given: Given, device: torch.device, world: World = ALONE) -> None:
        super().__init__(run, given, device, world)
        made = run.generator.shortened  # type: ignore[attr-defined]
        self.scales = made.scales
        # Only the first teacher may need two calls for guidance; the students after it have it inside.
        self.first = self.reference.config.shortened is None and self.scales != (1.0, 1.0)
        self.ends_of_rounds: list[int] = []

    def phases(self, scale: Scale, world: World = ALONE) -> list[Phase]:
        """Return the only phase."""
        self.ends_of_rounds = round_ends(self.config.rounds, scale.total_steps)
        return [
            self.phase(
                "generator", self.model, self._loss, scale, [self.reference],
                schedule=self._schedule(scale), after_step=self._after_step,
            )
        ]  # fmt: skip

    def stages(self, scale: Scale) -> tuple[int, ...]:
        """Return the step from which guidance takes no second call of the teacher, if it does before.

        Raises UserError if training is too short for its rounds.
        """
        ends = round_ends(self.config.rounds, scale.total_steps)
        return tuple(ends[:1]) if self.first else ()

    def _round(self, step: int) -> int:
        return sum(step >= end for end in self.ends_of_rounds[:-1])

    def _schedule(self, scale: Scale) -> Schedule:
        """Return the config's schedule, run through anew in each round."""
        begins = [0, *self.ends_of_rounds[:-1]]
        lengths = [end - begin for begin, end in zip(begins, self.ends_of_rounds, strict=True)]
        parts = [make_schedule(self.optimizer, replace(scale, total_steps=length)) for length in lengths]
        return lambda step: parts[self._round(step)](step - begins[self._round(step)])

    def _after_step(self, step: int) -> None:
        if step + 1 in self.ends_of_rounds[:-1]:
            self.reference.load_state_dict(self.model.network.state_dict())

    def _loss(self, micro: MicroBatch, step: int) -> PhaseLoss:
        keys, labels, number = micro["positions"], micro["labels"], self._round(step)
        steps = self.config.rounds[number]
        low, high = self.scales
        scales = low + (high - low) * self.even(keys, "scale")
        now = (steps * self.even(keys, "time")).floor() / steps
        stride = 0.5 if self.config.sampler == "deterministic" else 1.0
        data = self.model.normalised(micro["latents"])
        x = self.process.at(data, self.noise(keys), spread(now))
        with torch.no_grad():
            theirs = two_steps(self.process, self._teacher(labels, scales, number), x, now, stride / steps)
        network = self.model.network
        ours = ends_of(network, network(x, now, labels, {"scale": scales}).float(), x, now)
        return PhaseLoss({"distillation_loss": greatest_error(ours, theirs).mean()})

    def _teacher(self, labels: Int[Tensor, "batch"], scales: Float[Tensor, "batch"], number: int) -> Ends:
        network = self.reference

        def ends(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            if number == 0 and self.first:
                predicted = guided_prediction(network, x, t, labels, scales)
            else:
                predicted = network(x, t, labels, {"scale": scales}).float()
            return ends_of(network, predicted, x, t)

        return ends


def two_steps(
    process: Process, teacher: Ends, x: Tensor, now: Float[Tensor, "batch"], stride: float
) -> tuple[Tensor, Tensor]:
    """Return the data and the noise that take a student at x, in one step, where two steps of `stride` take its teacher.

    No step goes beyond the end: from less than two strides before it, the second one stays where the first has led.
    """
    middle, after = ((now + count * stride).clamp(max=1) for count in (1, 2))
    ahead = process.at(*teacher(x, now), spread(middle))
    # At the end nothing is left to predict, and networks are not trained there.
    further = process.at(*teacher(ahead, middle.clamp(max=1 - stride / 2)), spread(after))
    return one_step_to(process, x, torch.where(spread(middle) >= 1 - stride / 4, ahead, further), now, after)


def one_step_to(
    process: Process, x: Tensor, reached: Tensor, now: Float[Tensor, "batch"], after: Float[Tensor, "batch"]
) -> tuple[Tensor, Tensor]:
    """Return the data and the noise that x is made of at `now`, and `reached` at `after` (equation 4 of arXiv 2210.03142)."""
    here, there = spread(now), spread(after)
    alpha, sigma = process.alpha(here), process.sigma(here)
    ratio = process.sigma(there) / sigma
    data = (reached - ratio * x) / (process.alpha(there) - ratio * alpha)
    return data, (x - alpha * data) / sigma


def round_ends(rounds: tuple[int, ...], total_steps: int) -> list[int]:
    """Return the steps at which rounds end, the last being that of training: equal shares, twice as much for the last two.

    Raises UserError where training is shorter than that.
    """
    if total_steps < len(rounds):
        raise UserError(
            f"length: {total_steps} steps of training for {len(rounds)} rounds of halving; train longer, or set shortcut.from_steps and "
            "to_steps closer to each other"
        )
    weights = [LONGER if steps <= FEW else 1 for steps in rounds]
    return [round(total_steps * sum(weights[: number + 1]) / sum(weights)) for number in range(len(rounds))]
