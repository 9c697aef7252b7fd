"""How many steps sampling takes, and the guidance of each."""

import math

from vistok.errors import UserError
from vistok.generator.masked.config import USUAL_STEPS, MaskedSampling


def num_steps(sampling: MaskedSampling, num_tokens: int) -> int:
    """Return the number of steps. Raises UserError for more than there are tokens."""
    steps = sampling.steps or min(USUAL_STEPS, num_tokens)
    if steps > num_tokens:
        raise UserError(
            f"steps {steps}: an image has {num_tokens} tokens, and each step fills at least one; use at most {num_tokens} steps"
        )
    return steps


def guidance_scales(sampling: MaskedSampling, steps: int) -> list[float]:
    """Return the guidance scale of each step."""
    done = [step / steps for step in range(steps)]
    grown = {
        "constant": lambda x: 1.0,
        "linear": lambda x: x,
        "power_cosine": lambda x: (1 - math.cos(math.pi * x**sampling.guidance_power)) / 2,
    }[sampling.guidance_schedule]
    return [1 + (sampling.guidance_scale - 1) * grown(x) for x in done]
