"""Diff-Instruct* (Luo et al. 2024, arXiv 2410.20898): a one-call generator whose noisy samples have a reference's scores.

Three networks: the generator; the assistant, a flow that learns what the generator draws now; and the reference, the frozen
teacher. All divergences are written in clean predictions f of noisy samples x_t, to which scores are proportional.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from vistok.engine.distributed import ALONE, World
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss
from vistok.generator.flow.generator import FlowGenerator
from vistok.rng import seeded_init
from vistok.shortcut.base import (
    Given,
    Shortcut,
    ShortcutTraining,
    begin_as,
    clean,
    guided_clean,
    spread,
)
from vistok.shortcut.divergences import divergence, pull_towards
from vistok.units import Scale

# The default constant of the pseudo-Huber distance, times the root of an image's numbers (iCT, arXiv 2310.14189, section 3.3).
HUBER = 0.00054


class ScoreDivergence(Shortcut):
    """Two phases: the generator lowers the divergence and raises the reward, the assistant learns the generator's samples."""

    def __init__(self, run: ShortcutTraining, given: Given, device: torch.device, world: World = ALONE) -> None:
        super().__init__(run, given, device, world)
        assert self.teacher is not None
        with seeded_init(run.seed, "init", "assistant"), device:
            # Like the generator, it is asked about classes only.
            network = self.teacher.config.replace(label_dropout=0.0, representation=None)
            self.assistant = FlowGenerator(network, given.space, given.num_classes)
        begin_as(self.assistant, self.teacher)
        self.networks["assistant"] = self.assistant
        self.reward = given.reward
        self.huber = self.config.huber or HUBER * self.model.mean.numel() ** 0.5 * given.space.layout.positions**0.5

    def phases(self, scale: Scale, world: World = ALONE) -> list[Phase]:
        """Return the phases of the generator, which waits for the assistant's updates, and of the assistant."""
        every = self.config.assistant_updates
        generator = self.phase(
            "generator", self.model, self._loss, scale, [self.reference], momentum=False,
            active=lambda step: step % every == every - 1,
        )  # fmt: skip
        return [generator, self.phase("assistant", self.assistant, self._assistant_loss, scale, momentum=False)]

    @property
    def period(self) -> int:
        """The generator takes every so many steps."""
        return int(self.config.assistant_updates)

    def _draw(self, micro: MicroBatch) -> Tensor:
        """Return what the generator makes of noise, in one call at the beginning of the path."""
        noise = self.noise(micro["positions"], 1)
        scale = torch.full((len(noise),), float(self.config.guidance_scale), device=noise.device)
        start = torch.zeros_like(scale)
        return clean(self.model.network, noise, start, micro["labels"], {"scale": scale})

    def _loss(self, micro: MicroBatch, step: int) -> PhaseLoss:
        labels, made = micro["labels"], self._draw(micro)
        micro["made"] = made.detach()
        x, t = self._noised(micro, made, 2)
        theirs, pull = self._reference(x, t, labels)
        ours = clean(self.assistant.network, x, t, labels)
        size = (made - theirs).detach().abs().mean(dim=(1, 2)).clamp(min=1e-4)
        terms = {"divergence_loss": (divergence(self.config.divergence, ours, theirs, made, self.huber) / size).mean()}
        if pull is not None:
            terms["guidance_loss"] = (pull_towards(self.config.divergence, pull, made) / size).mean()
        statistics = {"score_difference": (ours - theirs).detach().square().mean()}
        if self.reward is not None:
            reward = self.reward(made * self.model.deviation + self.model.mean, labels).mean()
            terms["reward_loss"] = -self.config.reward.weight * reward
            statistics["reward"] = reward.detach()
        return PhaseLoss(terms, statistics)

    def _reference(self, x: Tensor, t: Float[Tensor, "batch"], labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the reference's clean predictions, guided from within, or plain ones and where guidance would pull."""
        scale = float(self.config.guidance_scale)
        guided = guided_clean(self.reference, x, t, labels, scale)
        if scale == 1.0 or self.config.guidance == "in":
            return guided, None
        # The paper's pull is from the prediction without a class to that with it, which this is a multiple of. A reference that
        # is told the scale has none without a class.
        plain = guided_clean(self.reference, x, t, labels, 1.0)
        return plain, (guided - plain).detach()

    def _assistant_loss(self, micro: MicroBatch, step: int) -> PhaseLoss:
        if "made" not in micro:
            with torch.no_grad():
                micro["made"] = self._draw(micro)
        made, labels = micro["made"], micro["labels"]
        noise, t = self.noise(micro["positions"], 3), self._times(micro, "assistant time")
        error, _, _ = self.assistant(made, noise, t, labels)
        return PhaseLoss({"matching_loss": error.mean()})

    def _noised(self, micro: MicroBatch, made: Tensor, stream: int) -> tuple[Tensor, Float[Tensor, "batch"]]:
        t = self._times(micro, "time")
        return self.process.at(made, self.noise(micro["positions"], stream), spread(t)), t

    def _times(self, micro: MicroBatch, name: str) -> Float[Tensor, "batch"]:
        low, high = self.config.times
        return self.process.trained_at(low + (high - low) * self.even(micro["positions"], name))
