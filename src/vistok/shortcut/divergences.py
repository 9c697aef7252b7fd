"""Divergences between what a generator draws and a reference, by the clean predictions of two networks."""

from jaxtyping import Float
from torch import Tensor


def divergence(
    kind: str,
    ours: Float[Tensor, "batch positions dim"],
    theirs: Float[Tensor, "batch positions dim"],
    made: Float[Tensor, "batch positions dim"],
    huber: float = 1.0,
) -> Float[Tensor, "batch"]:
    """Return a loss whose gradient with respect to the generator is that of a divergence, up to a positive factor.

    `ours`, `theirs`: predictions of the assistant and of the reference at noisy versions of `made`. For distances of scores
    ("pseudo_huber", "l2") the gradient has to flow through the noisy samples into both networks (arXiv 2410.20898, theorem 3.1): half
    of it or all is lost without. For the integral of KL divergences ("integral_kl") it must not (arXiv 2305.18455, equation 5).
    """
    difference = ours - theirs
    if kind == "integral_kl":
        return (difference.detach() * made).mean(dim=(1, 2))
    if kind == "pseudo_huber":
        difference = difference / (difference.square().sum(dim=(1, 2), keepdim=True) + huber**2).sqrt()
        return -(difference * (ours - made)).sum(dim=(1, 2))
    return -(2 * difference * (ours - made)).mean(dim=(1, 2))


def pull_towards(
    kind: str, pull: Float[Tensor, "batch positions dim"], made: Float[Tensor, "batch positions dim"]
) -> Float[Tensor, "batch"]:
    """Return a loss that moves what was made along `pull`, in proportion to a divergence of this kind for images of any size.

    "pseudo_huber" is a length, which grows with the root of an image's numbers; the others are means over them.
    """
    mean = (pull * made).mean(dim=(1, 2))
    return -mean * made[0].numel() ** 0.5 if kind == "pseudo_huber" else -mean
