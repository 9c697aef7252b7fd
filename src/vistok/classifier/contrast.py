"""Learning without labels: two views of an image are told from those of all others (SimCLR, Chen et al. 2020, 2002.05709).

One loss, no second network that moves slowly, and batches of a few hundred suffice for small grey images.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.classifier.config import ViewsConfig
from vistok.classifier.training import ClassifierObjective, ClassifierTraining
from vistok.classifier.views import random_view
from vistok.engine.distributed import ALONE, World
from vistok.engine.optim import adamw, decay_groups
from vistok.engine.phase import MicroBatch, Phase, PhaseLoss
from vistok.engine.schedule import make_schedule
from vistok.nn.precision import in_float32
from vistok.rng import derive_seed, seeded_init
from vistok.units import Scale


class Contrast(ClassifierObjective):
    """NT-Xent over two views (SimCLR, equation 1), and the classes' cross-entropy for the last layer alone."""

    def __init__(self, run: ClassifierTraining, device: torch.device) -> None:
        super().__init__(run, device)
        assert isinstance(run.learns, ViewsConfig)
        self.config, self.seed = run.learns, derive_seed(run.seed, "views")
        width, inside = run.classifier.feature_dim, run.learns.projector
        with seeded_init(run.seed, "init", "projector"), device:
            self.projector = nn.Sequential(nn.Linear(width, inside), nn.ReLU(), nn.Linear(inside, inside))
        self.networks["projector"] = self.projector

    def phases(self, scale: Scale, world: World = ALONE) -> list[Phase]:
        """Return the only phase."""
        optimizer, modules = self.run.optimizer, [self.model, self.projector]
        groups = [group for module in modules for group in decay_groups(module, optimizer.weight_decay)]
        return [
            Phase(
                name="classifier",
                modules=modules,
                optimizer=adamw(groups, optimizer),
                schedule=make_schedule(optimizer, scale),
                loss=self._loss,
                clip_groups={"classifier": [weight for module in modules for weight in module.parameters()]},
                clip_norm=optimizer.clip_norm,
            )
        ]

    def _loss(self, micro: MicroBatch, step: int) -> PhaseLoss:
        images, places, labels = micro["images"], micro["positions"], micro["labels"]
        views = torch.cat([random_view(images, places, self.seed, number, self.config) for number in (0, 1)])
        features = self.model.features(views)
        projected = F.normalize(self.projector(F.relu(features)).float(), dim=-1)
        loss, found = told_apart(projected, self.config.temperature)
        logits, twice = self.model.head(F.relu(features.detach())).float(), labels.repeat(2)
        terms = {"contrast": loss, "cross_entropy": F.cross_entropy(logits, twice)}
        return PhaseLoss(terms, {"found": found, "accuracy": (logits.detach().argmax(1) == twice).float().mean()})


def told_apart(views: Float[Tensor, "views dim"], temperature: float) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return NT-Xent of unit vectors, view 0 of all images and then view 1, and how often the partner is the nearest."""
    count = len(views)
    with in_float32(views):
        alike = (views @ views.T / temperature).fill_diagonal_(-torch.inf)
    partner = torch.arange(count, device=views.device).roll(count // 2)
    found = (alike.detach().argmax(1) == partner).float().mean()
    return F.cross_entropy(alike, partner), found
