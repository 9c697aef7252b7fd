"""The class token, and the label dropout that guidance needs."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vistok.errors import UserError


class ClassEmbedding(nn.Module):
    """One learned token per class and one for "no class" (number `num_classes`)."""

    def __init__(self, num_classes: int, width: int, label_dropout: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.label_dropout = label_dropout
        # Off where an objective drops labels itself, alike in all calls of a step.
        self.drops = True
        self.table = nn.Embedding(num_classes + 1, width)

    @property
    def null_label(self) -> int:
        """The number that stands for "no class"."""
        return self.num_classes

    def for_other_classes(self, table: Float[Tensor, "_ width"]) -> Float[Tensor, "_ width"]:
        """Return a first table for these classes, given one trained on others: every class begins as "no class" there.

        "No class" is the last row. Without label dropout it was never trained, so the mean of the classes stands in.
        """
        first = table[-1] if self.label_dropout else table[:-1].mean(0)
        return first.expand(self.num_classes + 1, -1).clone()

    def drop(self, labels: Int[Tensor, "batch"]) -> Int[Tensor, "batch"]:
        """Replace each label by the null label with probability `label_dropout`."""
        dropped = torch.rand(labels.shape, device=labels.device) < self.label_dropout
        return torch.where(dropped, self.null_label, labels)

    def forward(self, labels: Int[Tensor, "batch"]) -> Float[Tensor, "batch width"]:
        """Embed labels; in training mode some are dropped, unless `drops` is off."""
        return self.table(self.drop(labels) if self.training and self.drops else labels)


def require_label_dropout(label_dropout: float, scale: float) -> None:
    """Raise UserError for guidance with a model trained without label dropout."""
    if scale != 1.0 and label_dropout == 0:
        raise UserError(
            f"guidance_scale {scale} needs a generator trained with label dropout, but this one had "
            "label_dropout 0; use guidance_scale 1, or train with --set generator.label_dropout=0.1"
        )


def require_labels(labels: Int[Tensor, "batch"], num_classes: int) -> None:
    """Raise UserError for labels out of range."""
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise UserError(f"labels must lie in 0...{num_classes - 1}, found {int(labels.min())}...{int(labels.max())}")
