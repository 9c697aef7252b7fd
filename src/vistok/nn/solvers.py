"""Solvers of dx/dt = velocity(x, t) from noise to data. All have one signature and count their calls of the network."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from vistok.nn.process import Process

Velocity = Callable[[Tensor, float], Tensor]
SolverName = Literal["euler", "heun", "ddim", "multistep"]
Solver = Callable[[Velocity, Tensor, Sequence[float], Process], Tensor]


def warped_times(steps: int, warp: float = 1.0) -> list[float]:
    """Return steps + 1 times from 0 to 1; below 1, `warp` spends more of them near noise (t' = warp t / (1 + (warp - 1) t))."""
    evenly = [number / steps for number in range(steps)]
    return [*(warp * t / (1 + (warp - 1) * t) for t in evenly), 1.0]


def euler(velocity: Velocity, x: Tensor, times: Sequence[float], process: Process) -> Tensor:
    """First order, a call a step."""
    for now, after in zip(times, times[1:], strict=False):
        x = x + (after - now) * velocity(x, now)
    return x


def heun(velocity: Velocity, x: Tensor, times: Sequence[float], process: Process) -> Tensor:
    """Second order, two calls a step; the last step is Euler's, since no network is trained at the very end."""
    for now, after in zip(times, times[1:], strict=False):
        first = velocity(x, now)
        ahead = x + (after - now) * first
        last = after == times[-1]
        x = ahead if last else x + (after - now) / 2 * (first + velocity(ahead, after))
    return x


def ddim(velocity: Velocity, x: Tensor, times: Sequence[float], process: Process) -> Tensor:
    """Keep the predicted data and noise over a step (Song et al. 2020, arXiv 2010.02502), a call each.

    Along the linear path this is Euler's method.
    """
    for now, after in zip(times, times[1:], strict=False):
        here, there = (torch.tensor(time, dtype=x.dtype, device=x.device) for time in (now, after))
        data, noise = process.ends("velocity", velocity(x, now), x, here)
        x = process.at(data, noise, there)
    return x


def multistep(velocity: Velocity, x: Tensor, times: Sequence[float], process: Process) -> Tensor:
    """Second order by remembering the velocity of the step before (Adams and Bashforth, steps of any length), a call each."""
    before: Tensor | None = None
    length_before = 1.0
    for now, after in zip(times, times[1:], strict=False):
        length, here = after - now, velocity(x, now)
        if before is None:
            x = x + length * here
        else:
            ratio = length / (2 * length_before)
            x = x + length * ((1 + ratio) * here - ratio * before)
        before, length_before = here, length
    return x


SOLVERS: dict[SolverName, Solver] = {"euler": euler, "heun": heun, "ddim": ddim, "multistep": multistep}


def call_times(solver: SolverName, times: Sequence[float]) -> list[float]:
    """Return the times at which a solver asks for the velocity, in order."""
    if solver != "heun":
        return list(times[:-1])
    return [time for now, after in zip(times, times[1:], strict=False) for time in (now, after)][:-1]
