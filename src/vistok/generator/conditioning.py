"""The class token, and the label dropout that guidance needs."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class ClassEmbedding(nn.Module):
    """One learned token per class and one for "no class" (number `num_classes`)."""

    def __init__(self, num_classes: int, width: int, label_dropout: float) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.label_dropout = label_dropout
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
        """Embed labels; in training mode some are dropped."""
        return self.table(self.drop(labels) if self.training else labels)
