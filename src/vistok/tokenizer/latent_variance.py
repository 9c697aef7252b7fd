"""How far the latents of a batch lie from each other."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor


def alone(mean: Tensor) -> Tensor:
    """Return the mean unchanged: the `average` of a single process that holds the whole batch."""
    return mean


def batch_variance(
    latents: Float[Tensor, "batch positions dim"], average: Callable[[Tensor], Tensor] = alone
) -> Float[Tensor, ""]:
    """Return the variance about the batch's mean latent, averaged over dimensions.

    `average` takes the mean over processes, each of which holds an equal part of the batch.
    """
    mean = average(latents.mean(dim=(0, 1), keepdim=True))
    return average((latents - mean).square().mean())
