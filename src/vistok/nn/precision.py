"""Where sixteen bits would be too few."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def in_float32(like: Tensor) -> AbstractContextManager[None]:
    """Return a context without autocast, on the device of `like`: its products keep float32's full precision."""
    if like.device.type == "meta":  # has no autocast
        return nullcontext()
    return torch.autocast(like.device.type, enabled=False)
