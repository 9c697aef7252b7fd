"""Learning from labels."""

from torch.nn import functional as F

from vistok.classifier.training import ClassifierObjective
from vistok.engine.distributed import ALONE, World
from vistok.engine.objective import only_phase
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss
from vistok.units import Scale


class Classification(ClassifierObjective):
    """Cross-entropy over the classes."""

    def phases(self, scale: Scale, world: World = ALONE) -> list[Phase]:
        """Return the only phase."""
        return only_phase("classifier", self.model, self.run.optimizer, scale, self._loss)

    def _loss(self, micro: MicroBatch, step: int) -> PhaseLoss:
        logits = self.model(micro["images"]).float()
        accuracy = (logits.detach().argmax(1) == micro["labels"]).float().mean()
        return PhaseLoss({"cross_entropy": F.cross_entropy(logits, micro["labels"])}, {"accuracy": accuracy})
