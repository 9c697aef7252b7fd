"""The named, weighted loss terms of stage 1 (CRT paper A.1, equation 1)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.tokenizer.config import LossConfig
from vistok.tokenizer.interface import TokenizerOutput


def reconstruction_terms(
    output: TokenizerOutput, images: Tensor, config: LossConfig, perceptual: nn.Module | None
) -> dict[str, Tensor]:
    """Return the weighted terms of the sum: pixel (mean squared error), perceptual, and the quantizer's."""
    terms = {"pixel_loss": config.pixel_weight * F.mse_loss(output.reconstruction.float(), images)}
    if perceptual is not None and config.perceptual is not None:
        terms["perceptual_loss"] = config.perceptual.weight * perceptual(output.reconstruction, images)
    for name, loss in output.bottleneck.losses.items():
        terms[name] = config.quantizer_weight * loss
    return terms


def adaptive_weight(
    reconstruction: Tensor, adversarial: Tensor, last_layer: Tensor, average: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return the ratio of two losses' gradient norms at the decoder's last layer, at most 10^4 and detached.

    VQGAN (Esser et al. 2021, arXiv 2012.09841), equation 7; its code adds 10^-4 to the denominator. `average` takes the
    mean over processes, so the norms are those of the whole batch's gradients.
    """
    norms = [
        average(torch.autograd.grad(loss, last_layer, retain_graph=True)[0]).norm()
        for loss in (reconstruction, adversarial)
    ]
    return (norms[0] / (norms[1] + 1e-4)).clamp(max=1e4).detach()
