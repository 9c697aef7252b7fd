"""Scaled dot-product attention at the precision that suits the device."""

import torch
from torch import Tensor
from torch.nn import functional as F

from vistok.nn.precision import in_float32


def attend(query: Tensor, key: Tensor, value: Tensor, causal: bool = False) -> Tensor:
    """Map (..., queries, dim), (..., keys, dim) and (..., keys, dim) to (..., queries, dim): scaled dot-product attention.

    On a CPU under autocast it is computed in float32: backward, torch's kernel for bfloat16 takes five times as long on short
    sequences.
    """
    if query.is_cpu and torch.is_autocast_enabled("cpu"):
        with in_float32(query):
            return F.scaled_dot_product_attention(query.float(), key.float(), value.float(), is_causal=causal)
    return F.scaled_dot_product_attention(query, key, value, is_causal=causal)
