"""What an autoregressive generator minimises: the cross-entropy of the next token."""

import torch
from torch.nn import functional as F

from vistok.engine.distributed import ALONE, World
from vistok.engine.objective import Objective, only_phase
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss
from vistok.generator.autoregressive.config import AutoregressiveConfig
from vistok.generator.autoregressive.generator import AutoregressiveGenerator
from vistok.generator.training import GeneratorTraining
from vistok.rng import seeded_init
from vistok.space import Space
from vistok.units import Scale


class NextToken(Objective):
    """Nats per token, with labels smoothed if asked for, and the squared log-normaliser of the logits (CRT paper A.2)."""

    averaged = ("generator",)

    def __init__(
        self, run: GeneratorTraining, space: Space, num_classes: int, device: torch.device, world: World = ALONE
    ) -> None:
        assert isinstance(run.generator, AutoregressiveConfig)
        self.optimizer, self.z_loss, self.smoothing = (
            run.optimizer,
            run.generator.z_loss,
            run.generator.label_smoothing,
        )
        with seeded_init(run.seed, "init", "generator"), device:
            self.model = AutoregressiveGenerator(run.generator, space, num_classes)
        self.networks = {"generator": self.model}

    def phases(self, scale: Scale, world: World = ALONE) -> list[Phase]:
        """Return the only phase."""
        return only_phase("generator", self.model, self.optimizer, scale, self._loss)

    def _loss(self, micro: MicroBatch, step: int) -> PhaseLoss:
        if self.smoothing:
            return self._smoothed(micro)
        if not self.z_loss:
            return PhaseLoss({"nats_per_token": self.model.nats(micro["latents"], micro["labels"]).mean()})
        nats, squared = self.model.nats_and_normalizer(micro["latents"], micro["labels"])
        return PhaseLoss({"nats_per_token": nats.mean(), "z_loss": self.z_loss * squared.mean()})

    def _smoothed(self, micro: MicroBatch) -> PhaseLoss:
        """Return the loss with labels smoothed; what is logged as nats per token is not."""
        logits, tokens = self.model(micro["latents"], micro["labels"]).float(), micro["latents"]
        found = logits.flatten(0, 1)
        terms = {"smoothed_nats": F.cross_entropy(found, tokens.flatten(), label_smoothing=self.smoothing)}
        if self.z_loss:
            terms["z_loss"] = self.z_loss * logits.logsumexp(-1).square().mean()
        return PhaseLoss(terms, {"nats_per_token": F.cross_entropy(found.detach(), tokens.flatten())})

    def example(self, batch_size: int, device: torch.device) -> MicroBatch:
        """Return tokens and labels of the right shapes, all zeros."""
        return {
            "latents": torch.zeros(batch_size, self.model.num_tokens, dtype=torch.int64, device=device),
            "labels": torch.zeros(batch_size, dtype=torch.int64, device=device),
        }
