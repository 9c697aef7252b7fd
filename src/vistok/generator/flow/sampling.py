"""Sampling a flow: a solver over the network's velocity, with guidance while it is on."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vistok.generator.flow.config import FlowConfig, FlowSampling
from vistok.generator.flow.network import FlowNetwork
from vistok.nn.process import Process
from vistok.nn.solvers import SOLVERS, Velocity, warped_times


def times_of(sampling: FlowSampling) -> list[float]:
    """Return the times between a sampling's steps, from 0 to 1."""
    return warped_times(sampling.steps, sampling.warp)


def guides(config: FlowConfig, sampling: FlowSampling, time: float) -> bool:
    """Whether guidance takes a second call at a time: not where a shortcut has made it a part of the network."""
    on = sampling.guidance_from <= time < sampling.guidance_until
    return on and sampling.guidance_scale != 1.0 and config.shortened is None


def draw(
    network: FlowNetwork,
    process: Process,
    noise: Callable[[int], Float[Tensor, "batch positions dim"]],
    labels: Int[Tensor, "batch"],
    sampling: FlowSampling,
) -> Float[Tensor, "batch positions dim"]:
    """Return normalised vectors; the network is in evaluation mode. `noise`: of the start (0) and of later steps, by number."""
    velocity = velocity_of(network, process, labels, sampling)
    return SOLVERS[sampling.solver](velocity, noise(0), times_of(sampling), process, noise)


def velocity_of(
    network: FlowNetwork, process: Process, labels: Int[Tensor, "batch"], sampling: FlowSampling
) -> Velocity:
    """Return the velocity of a network in evaluation mode, guided as the sampling says, in float32."""
    config = network.config
    without = torch.full_like(labels, network.classes.null_label)

    def plain(x: Tensor, now: float, after: float, labels: Tensor) -> Tensor:
        t = _all(now, x)
        inside = sampling.guidance_from <= now < sampling.guidance_until
        further = {"scale": _all(sampling.guidance_scale if inside else 1.0, x), "until": _all(after, x)}
        predicted = network(x.to(network.out.weight.dtype), t, labels, further).float()
        return process.velocity(config.predicts, predicted, x, t[:, None, None])

    def velocity(x: Tensor, now: float, after: float) -> Tensor:
        if not guides(config, sampling, now):
            return plain(x, now, after, labels)
        both = plain(x.repeat(2, 1, 1), now, after, torch.cat([labels, without]))
        conditional, unconditional = both.chunk(2)
        return guided(conditional, unconditional, sampling.guidance_scale, sampling.guidance_channels)

    return velocity


def _all(value: float, x: Tensor) -> Float[Tensor, "batch"]:
    return torch.full((len(x),), value, dtype=torch.float32, device=x.device)


def guided(conditional: Tensor, unconditional: Tensor, scale: float, channels: int | None) -> Tensor:
    """Return unconditional + scale (conditional - unconditional); beyond the first `channels`, the conditional one."""
    moved = torch.lerp(unconditional, conditional, scale)
    if channels is None:
        return moved
    return torch.cat([moved[..., :channels], conditional[..., channels:]], dim=-1)
