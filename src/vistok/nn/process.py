"""Paths from noise (t = 0) to data (t = 1), and how what a network predicts converts to what a solver needs.

x_t = alpha(t) data + sigma(t) noise. The linear path is rectified flow's (Liu et al. 2022, arXiv 2209.03003; Lipman et al.
2022, arXiv 2210.02747), the cosine one Nichol and Dhariwal's (2021, arXiv 2102.09672), with time turned round.
"""

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

Path = Literal["linear", "cosine"]
Prediction = Literal["velocity", "noise", "clean"]
# Below this coefficient nothing is divided by it: at the ends of a path, where it is zero, a predicted noise says nothing of the
# data, nor clean data of the noise, and the network's error would be multiplied by thousands.
LEAST = 0.02


class Process(ABC):
    """A path. Times are tensors that broadcast against the data."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Return the share of data, from 0 to 1."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Return the share of noise, from 1 to 0."""

    @abstractmethod
    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the derivatives of alpha and sigma with respect to time."""

    def at(self, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return x_t."""
        return self.alpha(t) * data + self.sigma(t) * noise

    def target(self, kind: Prediction, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return what a network of this kind should predict."""
        if kind == "velocity":
            to_data, to_noise = self.rates(t)
            return to_data * data + to_noise * noise
        return noise if kind == "noise" else data

    def ends(self, kind: Prediction, predicted: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the clean data and the noise that a prediction at x_t means; they mix to x_t where that is possible.

        Where it is not, the unknown one is zero: the mean of normalised data, and of noise.
        """
        alpha, sigma = self.alpha(t), self.sigma(t)
        if kind == "noise":
            return _divided(x - sigma * predicted, alpha), predicted
        if kind == "clean":
            return predicted, _divided(x - alpha * predicted, sigma)
        # Two equations, x = alpha data + sigma noise and its derivative; their determinant is never zero.
        to_data, to_noise = self.rates(t)
        determinant = alpha * to_noise - to_data * sigma
        return (to_noise * x - sigma * predicted) / determinant, (alpha * predicted - to_data * x) / determinant

    def velocity(self, kind: Prediction, predicted: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """Return the velocity that a prediction at x_t means."""
        if kind == "velocity":
            return predicted
        to_data, to_noise = self.rates(t)
        data, noise = self.ends(kind, predicted, x, t)
        return to_data * data + to_noise * noise

    def score(self, noise: Tensor, t: Tensor) -> Tensor:
        """Return the gradient of log p(x_t), given the expected noise."""
        return -_divided(noise, self.sigma(t))


def _divided(value: Tensor, coefficient: Tensor) -> Tensor:
    """Return value / coefficient, or zero where the coefficient is too small to divide by."""
    return torch.where(coefficient >= LEAST, value / coefficient.clamp(min=LEAST), 0.0)


class LinearPath(Process):
    """alpha = t, sigma = 1 - t: the velocity is data - noise."""

    def alpha(self, t: Tensor) -> Tensor:
        """Return t."""
        return t

    def sigma(self, t: Tensor) -> Tensor:
        """Return 1 - t."""
        return 1 - t

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return 1 and -1."""
        return torch.ones_like(t), -torch.ones_like(t)


class CosinePath(Process):
    """alpha = sin(pi t / 2), sigma = cos(pi t / 2): keeps the variance of normalised data."""

    def alpha(self, t: Tensor) -> Tensor:
        """Return sin(pi t / 2)."""
        return torch.sin(math.pi / 2 * t)

    def sigma(self, t: Tensor) -> Tensor:
        """Return cos(pi t / 2)."""
        return torch.cos(math.pi / 2 * t)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return their derivatives."""
        half = math.pi / 2
        return half * torch.cos(half * t), -half * torch.sin(half * t)


PROCESSES: dict[Path, Process] = {"linear": LinearPath(), "cosine": CosinePath()}
