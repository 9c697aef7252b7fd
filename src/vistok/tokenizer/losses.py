"""The named, weighted loss terms of stage 1 (CRT paper A.1, equation 1)."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.tokenizer.config import LossConfig
from vistok.tokenizer.interface import TokenizerOutput


def reconstruction_terms(
    output: TokenizerOutput, images: Tensor, config: LossConfig, distances: Mapping[str, nn.Module]
) -> dict[str, Tensor]:
    """Return the weighted terms of the sum: pixel (mean squared or absolute error), distances of frozen networks, the bottleneck's.

    `distances`: by the name of their part in the config, `perceptual` or `logits`.
    """
    compare = F.mse_loss if config.pixel == "l2" else F.l1_loss
    terms = {"pixel_loss": config.pixel_weight * compare(output.reconstruction.float(), images)}
    for name, distance in distances.items():
        terms[f"{name}_loss"] = getattr(config, name).weight * distance(output.reconstruction, images)
    for name, loss in output.bottleneck.losses.items():
        terms[name] = config.quantizer_weight * loss
    return terms


def norm_ratio(
    reconstruction: Tensor, other: Tensor, layer: Tensor, average: Callable[[Tensor], Tensor], least: float = 1e-8
) -> Tensor:
    """Return the ratio of two losses' gradient norms at a layer's weight, at most 10^4 and detached.

    VQGAN (Esser et al. 2021, arXiv 2012.09841), equation 7, at the decoder's last layer; VA-VAE at the encoder's. `least` is
    added to the denominator. `average` takes the mean over processes, so the norms are those of the whole batch's gradients.
    """
    norms = [average(torch.autograd.grad(loss, layer, retain_graph=True)[0]).norm() for loss in (reconstruction, other)]
    return (norms[0] / (norms[1] + least)).clamp(max=1e4).detach()
