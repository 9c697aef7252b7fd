"""Sampling a flow: a solver over the network's velocity, with guidance while it is on."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vistok.generator.flow.config import FlowSampling
from vistok.generator.flow.network import FlowNetwork
from vistok.nn.process import Process
from vistok.nn.solvers import SOLVERS, warped_times


def times_of(sampling: FlowSampling) -> list[float]:
    """Return the times between a sampling's steps, from 0 to 1."""
    return warped_times(sampling.steps, sampling.warp)


def guides(sampling: FlowSampling, time: float) -> bool:
    """Whether guidance is on at a time."""
    return sampling.guidance_scale != 1.0 and sampling.guidance_from <= time < sampling.guidance_until


def draw(
    network: FlowNetwork,
    process: Process,
    noise: Float[Tensor, "batch positions dim"],
    labels: Int[Tensor, "batch"],
    sampling: FlowSampling,
) -> Float[Tensor, "batch positions dim"]:
    """Return normalised vectors for noise and labels; the network is in evaluation mode."""
    without = torch.full_like(labels, network.classes.null_label)

    def plain(x: Tensor, time: float, labels: Tensor) -> Tensor:
        """Return the velocity that the network's prediction means, in float32."""
        t = torch.full((len(x),), time, dtype=torch.float32, device=x.device)
        predicted = network(x.to(network.out.weight.dtype), t, labels).float()
        return process.velocity(network.config.predicts, predicted, x, t[:, None, None])

    def velocity(x: Tensor, time: float) -> Tensor:
        if not guides(sampling, time):
            return plain(x, time, labels)
        both = plain(x.repeat(2, 1, 1), time, torch.cat([labels, without]))
        conditional, unconditional = both.chunk(2)
        return guided(conditional, unconditional, sampling.guidance_scale, sampling.guidance_channels)

    return SOLVERS[sampling.solver](velocity, noise, times_of(sampling), process)


def guided(conditional: Tensor, unconditional: Tensor, scale: float, channels: int | None) -> Tensor:
    """Return unconditional + scale (conditional - unconditional); beyond the first `channels`, the conditional one."""
    moved = torch.lerp(unconditional, conditional, scale)
    if channels is None:
        return moved
    return torch.cat([moved[..., :channels], conditional[..., channels:]], dim=-1)
