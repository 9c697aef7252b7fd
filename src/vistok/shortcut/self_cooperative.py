"""YOSO (Luo et al. 2024, arXiv 2403.12931): a generator's predictions from much noise should be like its own from less.

The discriminator compares the two distributions of clean predictions; a consistency term compares them image by image, and a
reconstruction term, in place of the paper's KL as in its released code, keeps them near the data. The gap between the two times
is small, so training stays calm where a GAN against data does not.
"""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vistok.engine.distributed import ALONE, World
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss
from vistok.generator.flow.network import check_space
from vistok.nn.lora import LowRank
from vistok.rng import seeded_init
from vistok.shortcut.base import Given, Shortcut, ShortcutTraining, clean, spread
from vistok.shortcut.discriminator import FlowDiscriminator
from vistok.units import Scale


class SelfCooperative(Shortcut):
    """Two phases: the generator, and the discriminator, which sees what the generator has made in the same step."""

    def __init__(self, run: ShortcutTraining, given: Given, device: torch.device, world: World = ALONE) -> None:
        super().__init__(run, given, device, world)
        with seeded_init(run.seed, "init", "discriminator"), device:
            self.discriminator = FlowDiscriminator(
                self.reference.config, check_space(self.network_config, given.space), given.num_classes
            )
        if device.type != "meta":
            self.discriminator.begin_as(self.reference)
        self.lora: LowRank | None = None
        if self.config.lora_rank is not None:
            with seeded_init(run.seed, "init", "lora"), device:
                self.lora = LowRank(self.model.network, self.config.lora_rank)
            self.networks["lora"] = self.lora
            self.model.requires_grad_(False)
        self.networks["discriminator"] = self.discriminator
        self.middle = max(1, self.reference.config.depth // 2)

    def phases(self, scale: Scale, world: World = ALONE) -> list[Phase]:
        """Return the phases of generator and discriminator; with LoRA the weights follow their changes of low rank."""
        if self.lora is None:
            generator = self.phase("generator", self.model, self._loss, scale, [self.reference])
        else:
            self.lora.begin_at(self.model.network)  # --init-from has replaced the teacher's weights
            merge = partial(self.lora.merge_into, self.model.network)
            generator = self.phase(
                "generator", self.lora, self._loss, scale, [self.model, self.reference], after_step=lambda step: merge()
            )
        discriminator = self.phase("discriminator", self.discriminator, self._discriminator_loss, scale, momentum=False)
        return [generator, discriminator]

    def _loss(self, micro: MicroBatch, step: int) -> PhaseLoss:
        config, keys, labels = self.config, micro["positions"], micro["labels"]
        data, noise, t = self.model.normalised(micro["latents"]), self.noise(keys), self._times(keys)
        made = self._predicted(data, noise, t, labels)
        with torch.no_grad():
            nearer = self._predicted(data, noise, self._later(t, config.adversarial_shift), labels)
            from_data = self.even(keys, "data") < config.data_share
            micro["real"] = torch.where(spread(from_data), data, nearer)
        micro["made"], micro["times"] = made.detach(), t
        after = self._later(t, config.consistency_shift)
        with torch.no_grad():
            target = self._predicted(data, noise, after, labels)
        terms = {
            "adversarial_loss": config.adversarial_weight * F.softplus(-self.discriminator(made, t, labels)).mean(),
            "consistency_loss": config.consistency_weight
            * (self._consistency_weight(t, after) * self._distance(made, target, labels)).mean(),
            "reconstruction_loss": config.reconstruction_weight
            * (self._least(self._signal_to_noise(t)) * (made - data).square().mean(dim=(1, 2))).mean(),
        }
        return PhaseLoss(terms)

    def _discriminator_loss(self, micro: MicroBatch, step: int) -> PhaseLoss:
        real, made = (self.discriminator(micro[name], micro["times"], micro["labels"]) for name in ("real", "made"))
        statistics = {"real_logit": real.detach().mean(), "made_logit": made.detach().mean()}
        return PhaseLoss({"discriminator_loss": (F.softplus(-real) + F.softplus(made)).mean()}, statistics)

    def _times(self, keys: Tensor) -> Float[Tensor, "batch"]:
        """Return even random times, and for a share of the images the beginning of the path."""
        times = self.process.trained_at(self.even(keys, "time"))
        return torch.where(self.even(keys, "start") < self.config.start_share, 0.0, times)

    def _later(self, t: Float[Tensor, "batch"], shift: float) -> Float[Tensor, "batch"]:
        """Return times of less noise, none beyond the last at which networks learn."""
        return self.process.trained_at((t + shift).clamp(max=1))

    def _predicted(self, data: Tensor, noise: Tensor, t: Float[Tensor, "batch"], labels: Tensor) -> Tensor:
        """Return the generator's clean predictions of data that are mixed with noise until time t."""
        x, network = self.process.at(data, noise, spread(t)), self.model.network
        if self.lora is None:
            return clean(network, x, t, labels)
        with self.lora.applied_to(network):
            return clean(network, x, t, labels)

    def _distance(self, made: Tensor, target: Tensor, labels: Tensor) -> Float[Tensor, "batch"]:
        """Return the mean squared difference, in the frozen teacher's middle layer unless the config says otherwise."""
        if self.config.consistency == "mean_square":
            return (made - target).square().mean(dim=(1, 2))
        end = self.process.trained_at(torch.ones(len(made), device=made.device))
        inner = [self.reference.with_inner(x, end, labels, self.middle)[1].float() for x in (made, target)]
        return (inner[0] - inner[1]).square().mean(dim=(1, 2))

    def _signal_to_noise(self, t: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        return (self.process.alpha(t) / self.process.sigma(t).clamp(min=1e-4)).square()

    def _least(self, weight: Tensor) -> Tensor:
        return weight.clamp(max=self.config.most_weight)

    def _consistency_weight(self, t: Float[Tensor, "batch"], after: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        """Return 1 over the difference of the noise-to-signal ratios: nothing at the very beginning, where it has no bound."""
        here, there = (self.process.sigma(time) / self.process.alpha(time).clamp(min=1e-6) for time in (t, after))
        return self._least(1 / (here - there).clamp(min=1e-6))
