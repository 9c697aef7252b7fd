"""Start a tokenizer to vectors from the weights of one to tokens, or the other way round: all but the bottleneck stays."""

import torch
from torch import Tensor

from vistok.config import make
from vistok.errors import UserError
from vistok.tokenizer.bottlenecks.config import BOTTLENECKS
from vistok.tokenizer.config import TokenizerConfig
from vistok.tokenizer.interface import Tokenizer

# The bottleneck's own parameters and buffers.
_OWN = "quantizer."


def of_other_kind(stored: TokenizerConfig, wanted: TokenizerConfig) -> bool:
    """Return whether one of two networks gives tokens, and the other vectors."""
    return stored.space.kind != wanted.space.kind


def fitted_to(network: Tokenizer, state: dict[str, Tensor], stored: TokenizerConfig, name: str) -> dict[str, Tensor]:
    """Return weights, those of a network `stored`, for one with another bottleneck, which begins anew.

    As many numbers of a latent as both have are kept. Further ones begin as in a new network, and weigh nothing in the decoder, so that
    at first they change no image. Raises UserError, which names the weights `name`, if this kind of network keeps its latents.
    """
    leading = network.leading_layer()
    if leading is None:
        raise UserError(
            f"init_from {name}: the latents of a {network.config.kind!r} tokenizer stay what they are, {stored.space}; choose a recipe "
            "for latents of this kind"
        )
    network.quantizer.begin(leading)
    with torch.device("meta"):
        shared = min(make(BOTTLENECKS, stored.quantizer).code_dim, network.quantizer.code_dim)
    outputs = {id(parameter) for parameter in leading.parameters()}
    gives = {key for key, parameter in network.named_parameters() if id(parameter) in outputs}
    new = network.state_dict()
    fitted = {key: value for key, value in new.items() if key.startswith(_OWN)}
    for key, value in state.items():
        if not key.startswith(_OWN):
            rows = shared if key in gives else None
            fitted[key] = _overlaid(new[key], value, rows) if key in new else value
    return fitted


def _overlaid(new: Tensor, value: Tensor, rows: int | None) -> Tensor:
    """Return `value`, or its first `rows`, in the shape of `new`; unchanged if more than inputs and outputs differ."""
    alike = new.shape == value.shape and rows is None
    if alike or new.shape[2:] != value.shape[2:] or new.ndim != value.ndim:
        return value
    both = [slice(min(sides)) for sides in zip(new.shape[:2], value.shape[:2], strict=True)]
    laid = new.clone()
    if new.ndim > 1:
        laid[:, value.shape[1] :] = 0
    both[0] = both[0] if rows is None else slice(rows)
    laid[tuple(both)] = value[tuple(both)].to(laid.dtype)
    return laid
