"""What a masked generator minimises: the cross-entropy of tokens that it does not see."""

import torch

from vistok.engine.distributed import ALONE, World
from vistok.engine.objective import Objective, only_phase
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss
from vistok.generator.masked.config import MaskedConfig
from vistok.generator.masked.generator import MaskedGenerator
from vistok.generator.training import GeneratorTraining
from vistok.nn.masking import SCHEDULES, even_progress, masked_counts, masks, mean_share
from vistok.rng import derive_seed, seeded_init
from vistok.space import Space
from vistok.units import Scale


class Unmasking(Objective):
    """Nats per masked token, with labels smoothed; tokens that are seen count with a weight of their own."""

    averaged = ("generator",)

    def __init__(
        self, run: GeneratorTraining, space: Space, num_classes: int, device: torch.device, world: World = ALONE
    ) -> None:
        assert isinstance(run.generator, MaskedConfig)
        self.optimizer, self.config = run.optimizer, run.generator
        self.seed = derive_seed(run.seed, "masked")
        with seeded_init(run.seed, "init", "generator"), device:
            self.model = MaskedGenerator(run.generator, space, num_classes)
        self.networks = {"generator": self.model}
        share = mean_share(self.config.schedule, self.model.num_tokens)
        # Dividing by the batch's own sum of weights, as in TiTok's code, would make the loss depend on micro-batches.
        self.expected_weight = share + self.config.unmasked_weight * (1 - share)

    def phases(self, scale: Scale, world: World = ALONE) -> list[Phase]:
        """Return the only phase."""
        return only_phase("generator", self.model, self.optimizer, scale, self._loss)

    def _loss(self, micro: MicroBatch, step: int) -> PhaseLoss:
        # How much of an image is masked, and where, is its own, in whatever micro-batch and on whatever process it is.
        positions, num_tokens = micro["positions"], self.model.num_tokens
        share = SCHEDULES[self.config.schedule](even_progress(self.seed, positions))
        counts = masked_counts(share, num_tokens)
        masked = masks(self.seed, positions, counts, num_tokens)
        losses = self.model(micro["latents"], masked, micro["labels"], self.config.label_smoothing)
        weights = masked + self.config.unmasked_weight * ~masked
        return PhaseLoss({"masked_loss": (weights * losses).mean() / self.expected_weight})

    def example(self, batch_size: int, device: torch.device) -> MicroBatch:
        """Return tokens and labels of the right shapes, all zeros."""
        return {
            "latents": torch.zeros(batch_size, self.model.num_tokens, dtype=torch.int64, device=device),
            "labels": torch.zeros(batch_size, dtype=torch.int64, device=device),
            "positions": torch.zeros(batch_size, dtype=torch.int64, device=device),
        }
