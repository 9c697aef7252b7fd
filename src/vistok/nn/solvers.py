"""Solvers of dx/dt = velocity(x, t) from noise to data, with one signature: euler, heun, ddim, multistep, and two with fresh noise.

A velocity is a function of x, of the time now and of the time to which its step will go: networks of average velocities need both.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vistok.nn.process import Process
from vistok.nn.solver_names import SolverName

Velocity = Callable[[Tensor, float, float], Tensor]
# Standard normal noise for the step with this number, counted from 1; 0 is the noise that sampling starts from.
Fresh = Callable[[int], Tensor]
Solver = Callable[[Velocity, Tensor, Sequence[float], Process, Fresh], Tensor]


def warped_times(steps: int, warp: float = 1.0) -> list[float]:
    """Return steps + 1 times from 0 to 1; below 1, `warp` spends more of them near noise (t' = warp t / (1 + (warp - 1) t))."""
    evenly = [number / steps for number in range(steps)]
    return [*(warp * t / (1 + (warp - 1) * t) for t in evenly), 1.0]


def euler(velocity: Velocity, x: Tensor, times: Sequence[float], process: Process, fresh: Fresh) -> Tensor:
    """First order, a call a step."""
    for now, after in zip(times, times[1:], strict=False):
        x = x + (after - now) * velocity(x, now, after)
    return x


def heun(velocity: Velocity, x: Tensor, times: Sequence[float], process: Process, fresh: Fresh) -> Tensor:
    """Second order, two calls a step; the last step is Euler's, since no network is trained at the very end."""
    for now, after in zip(times, times[1:], strict=False):
        first = velocity(x, now, after)
        ahead = x + (after - now) * first
        last = after == times[-1]
        x = ahead if last else x + (after - now) / 2 * (first + velocity(ahead, after, after))
    return x


def ddim(velocity: Velocity, x: Tensor, times: Sequence[float], process: Process, fresh: Fresh) -> Tensor:
    """Keep the predicted data and noise over a step (Song et al. 2020, arXiv 2010.02502), a call each.

    Along the linear path this is Euler's method.
    """
    for now, after in zip(times, times[1:], strict=False):
        x = process.at(*_ends(velocity, x, now, after, process), _at(after, x))
    return x


def multistep(velocity: Velocity, x: Tensor, times: Sequence[float], process: Process, fresh: Fresh) -> Tensor:
    """Second order by remembering the velocity of the step before (Adams and Bashforth, steps of any length), a call each."""
    before: Tensor | None = None
    length_before = 1.0
    for now, after in zip(times, times[1:], strict=False):
        length, here = after - now, velocity(x, now, after)
        if before is None:
            x = x + length * here
        else:
            ratio = length / (2 * length_before)
            x = x + length * ((1 + ratio) * here - ratio * before)
        before, length_before = here, length
    return x


def renoise(velocity: Velocity, x: Tensor, times: Sequence[float], process: Process, fresh: Fresh) -> Tensor:
    """Predict the data and mix them with fresh noise for the next time, a call each."""
    for number, (now, after) in enumerate(zip(times, times[1:], strict=False), 1):
        data, noise = _ends(velocity, x, now, after, process)
        # At the last time the share of noise is zero, or nearly: what is left of it should be the predicted noise.
        x = process.at(data, noise if after == times[-1] else fresh(number), _at(after, x))
    return x


def double_step(velocity: Velocity, x: Tensor, times: Sequence[float], process: Process, fresh: Fresh) -> Tensor:
    """Go two steps ahead as `ddim` does, and one back by adding noise; the last step goes to the end (a call each)."""
    for number, now in enumerate(times[:-1]):
        after, ahead = times[number + 1], times[min(number + 2, len(times) - 1)]
        x = process.at(*_ends(velocity, x, now, ahead, process), _at(ahead, x))
        if ahead != after:
            kept, spread = process.back(_at(ahead, x), _at(after, x))
            x = kept * x + spread * fresh(number + 1)
    return x


def _ends(velocity: Velocity, x: Tensor, now: float, after: float, process: Process) -> tuple[Tensor, Tensor]:
    """Return the data and the noise that the velocity at x means."""
    return process.ends("velocity", velocity(x, now, after), x, _at(now, x))


def _at(time: float, x: Tensor) -> Tensor:
    return torch.tensor(time, dtype=x.dtype, device=x.device)


SOLVERS: dict[SolverName, Solver] = {
    "euler": euler,
    "heun": heun,
    "ddim": ddim,
    "multistep": multistep,
    "renoise": renoise,
    "double_step": double_step,
}


def call_times(solver: SolverName, times: Sequence[float]) -> list[float]:
    """Return the times at which a solver asks for the velocity, in order."""
    if solver != "heun":
        return list(times[:-1])
    return [time for now, after in zip(times, times[1:], strict=False) for time in (now, after)][:-1]
