"""From logits to codes, for all families that write tokens: guidance, filters, and a draw whose noise has a key."""

from jaxtyping import Float, Int
from torch import Tensor

from vistok.nn.filtering import CodeSampling, filter_logits
from vistok.nn.keyed_noise import gumbel_noise


def guide(conditional: Tensor, unconditional: Tensor, scale: float) -> Tensor:
    """Return uncond + scale * (cond - uncond) (classifier-free guidance; CRT paper A.2)."""
    return unconditional + scale * (conditional - unconditional)


def choose(
    logits: Float[Tensor, "batch codes"],
    image_ids: Int[Tensor, "batch"],
    position: int | Tensor,
    sampling: CodeSampling,
) -> Int[Tensor, "batch"]:
    """Draw one code per row with the Gumbel arg-max trick; temperature 0 takes the most likely code.

    `position` is a single number, or one per row.
    """
    logits = filter_logits(logits.float(), sampling)
    if sampling.temperature > 0:
        logits = logits + gumbel_noise(sampling.seed, image_ids, position, logits.shape[-1])
    return logits.argmax(dim=-1)
