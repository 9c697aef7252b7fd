"""Paths from noise (t = 0) to data (t = 1), and how what a network predicts converts to what a solver needs.

x_t = alpha(t) data + sigma(t) noise. The linear path is rectified flow's (Liu et al. 2022, arXiv 2209.03003; Lipman et al.
2022, arXiv 2210.02747), the cosine one Nichol and Dhariwal's (2021, arXiv 2102.09672), with time turned round, and "ddpm" that
of Ho et al. (2020, arXiv 2006.11239), which DiT uses: 1,000 steps whose variances grow evenly from 1e-4 to 0.02.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Path = Literal["linear", "cosine", "ddpm"]
Prediction = Literal["velocity", "noise", "clean"]


class Process(ABC):
    """A path. Times are tensors that broadcast against the data."""

    # Below this coefficient nothing is divided by it: at the ends of a path, where it is zero, a predicted noise says nothing of
    # the data, nor clean data of the noise, and the network's error would be multiplied by thousands.
    least = 0.02

    def told(self, t: Tensor) -> Tensor:
        """Return the time as a network is told it, before its scale."""
        return t

    def trained_at(self, t: Tensor) -> Tensor:
        """Return the time at which a network learns where `t` was drawn."""
        return t

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

    def back(self, ahead: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
        """Return factors of x at time `ahead` and of fresh noise whose sum is x at the earlier time `after`."""
        kept = self.alpha(after) / self.alpha(ahead)
        return kept, (self.sigma(after).square() - (kept * self.sigma(ahead)).square()).clamp(min=0).sqrt()

    def target(self, kind: Prediction, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return what a network of this kind should predict."""
        if kind == "velocity":
            to_data, to_noise = self.rates(t)
            return to_data * data + to_noise * noise
        return noise if kind == "noise" else data

    def blind_loss(self, kind: Prediction, t: Tensor) -> Tensor:
        """Return the mean squared error of the best prediction that knows x_t, and of data no more than mean 0 and variance 1.

        It is that of a network which has learned nothing of the data: its samples are noise.
        """
        alpha, sigma = self.alpha(t), self.sigma(t)
        to_data, to_noise = self.rates(t)
        hidden = {"velocity": alpha * to_noise - to_data * sigma, "noise": alpha, "clean": sigma}[kind]
        return hidden.square() / (alpha.square() + sigma.square())

    def ends(self, kind: Prediction, predicted: Tensor, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return the clean data and the noise that a prediction at x_t means; they mix to x_t where that is possible.

        Where it is not, the unknown one is zero: the mean of normalised data, and of noise.
        """
        alpha, sigma = self.alpha(t), self.sigma(t)
        if kind == "noise":
            return self._divided(x - sigma * predicted, alpha), predicted
        if kind == "clean":
            return predicted, self._divided(x - alpha * predicted, sigma)
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
        return -self._divided(noise, self.sigma(t))

    def _divided(self, value: Tensor, coefficient: Tensor) -> Tensor:
        """Return value / coefficient, or zero where the coefficient is too small to divide by."""
        return torch.where(coefficient >= self.least, value / coefficient.clamp(min=self.least), 0.0)


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


class DDPMPath(Process):
    """After step k of 1,000, alpha^2 = (1 - beta_1) ... (1 - beta_k), at time 1 - k / 1000; alpha^2 + sigma^2 = 1.

    It begins at alpha = 0.0064, not at zero. Between the steps, the logarithm of alpha^2 is the one polynomial that meets it at all
    of them. Networks learn at the steps alone, and are told 999 down to 0 (thousandths of it), from noise to data.
    """

    least = 0.005  # less than alpha and sigma at any step
    steps, first_beta, last_beta = 1000, 1e-4, 0.02
    rounding = 1e-4  # more than a time in float32 is off by, in steps

    def __init__(self) -> None:
        rest = np.arange(1, self.steps + 1) / self.steps
        kept = np.log1p(-np.linspace(self.first_beta, self.last_beta, self.steps)).cumsum()
        # log(1 - beta) is a short series in beta, and sums of powers are polynomials: eight terms leave 1e-11. What is fitted is
        # the logarithm over the time that is left, so that it vanishes with it.
        fitted = np.polynomial.Polynomial.fit(rest, kept / rest, 7).convert()
        whole = fitted * np.polynomial.Polynomial([0, 1])
        self._fitted, self._slope = fitted.coef.tolist(), whole.deriv().coef.tolist()

    def told(self, t: Tensor) -> Tensor:
        """Return the number of the step over 1,000."""
        return 1 - t - 1 / self.steps

    def trained_at(self, t: Tensor) -> Tensor:
        """Return the time of a step: a step's own as it is, rounded as it may be, and the last one for the very end, which is none."""
        return (t * self.steps + self.rounding).floor().clamp(max=self.steps - 1) / self.steps

    def alpha(self, t: Tensor) -> Tensor:
        """Return the root of the product of all 1 - beta so far."""
        return (self._log_kept(t) / 2).exp()

    def sigma(self, t: Tensor) -> Tensor:
        """Return the root of one minus that product."""
        return (-torch.expm1(self._log_kept(t))).sqrt()

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return their derivatives; sigma's has no bound at the very end."""
        kept = self._log_kept(t)
        half = -_polynomial(self._slope, 1 - t) / 2
        return half * (kept / 2).exp(), -half * kept.exp() / self.sigma(t)

    def _log_kept(self, t: Tensor) -> Tensor:
        return (1 - t) * _polynomial(self._fitted, 1 - t)


def _polynomial(coefficients: Sequence[float], x: Tensor) -> Tensor:
    value = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        value = value * x + coefficient
    return value


PROCESSES: dict[Path, Process] = {"linear": LinearPath(), "cosine": CosinePath(), "ddpm": DDPMPath()}
