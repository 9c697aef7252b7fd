"""Scaling laws: L(C) = L_min + exp(b) * C ** alpha, fitted robustly in logarithms, with intervals.

This is the form used in the CRT paper (figures 4 to 7). Errors are relative, so residuals are log L - log L(C); a soft L1
loss limits the influence of a bad run. Internally, C is divided by its geometric mean, so that b is well determined.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy import special

# Relative errors above this size get less and less weight.
ROBUST_SCALE = 0.1
CONFIDENCE = 0.95
# The widest interval for alpha; alpha is about -8 if a fixed cost dwarfs the varying part.
ALPHAS = (-50.0, 50.0)
_GRID = 25
_STEPS = 60


@dataclass(frozen=True)
class PowerLaw:
    """A fitted law, as in the paper: alpha < 0, b the intercept in natural logarithms, l_min the floor.

    Intervals of alpha and l_min come from the likelihood ratio (F-test). `r2` is for log L. `scale` is the relative standard
    error of a single run around the law, and `freedom` its degrees of freedom.
    """

    alpha: float
    b: float
    l_min: float
    alpha_low: float
    alpha_high: float
    l_min_low: float
    l_min_high: float
    r2: float
    scale: float
    freedom: int
    n: int
    low_compute: float
    high_compute: float
    # Of (alpha, b at the runs' mean log compute `center`, l_min), for runs that scatter by 1; predictions use it.
    center: float
    unit_covariance: tuple[tuple[float, ...], ...]

    def __call__(self, compute: float | np.ndarray) -> np.ndarray:
        """Return the law's value at this compute (FLOPs)."""
        return self.l_min + np.exp(self.b + self.alpha * np.log(compute))

    def predict(self, compute: float, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
        """Return (value, low, high) for one new run at this compute (FLOPs).

        The interval covers the scatter of runs and the uncertainty of the law, propagated linearly.
        """
        value = float(self(compute))
        power = math.exp(self.b + self.alpha * math.log(compute))
        gradient = np.array([power * (math.log(compute) - self.center), power, 1.0]) / value
        spread = self.scale * math.sqrt(1 + float(gradient @ np.array(self.unit_covariance) @ gradient))
        factor = math.exp(float(special.stdtrit(self.freedom, 0.5 + confidence / 2)) * spread)
        return value, value / factor, value * factor


def with_common_scatter(laws: Sequence[PowerLaw]) -> list[PowerLaw]:
    """Return laws of runs of one kind, all with the scatter of the runs about any of them.

    A law of few runs says little of their scatter: intervals by its own are by chance far too narrow or too wide. With the common
    one, laws of one to three seeds hold 92 to 95 % of the other seeds' runs (results/decisive/law_intervals.md).
    """
    freedom = sum(law.freedom for law in laws)
    scale = math.sqrt(sum(law.freedom * law.scale**2 for law in laws) / max(1, freedom))
    return [replace(law, scale=scale, freedom=freedom) for law in laws]


def fit_power_law(compute: Sequence[float], loss: Sequence[float], l_min: float | None = None) -> PowerLaw:
    """Fit the law to runs; `l_min` fixes the floor, which is otherwise fitted too.

    Raises ValueError for fewer than 4 runs (3 with a fixed floor), values that are not positive, or a floor
    that is not below all of them.
    """
    return _fitted(tuple(map(float, compute)), tuple(map(float, loss)), l_min)


@lru_cache(maxsize=1024)  # claims, advice and the page fit the same runs again and again
def _fitted(compute: tuple[float, ...], loss: tuple[float, ...], l_min: float | None) -> PowerLaw:
    x, y = np.log(np.asarray(compute, dtype=np.float64)), np.asarray(loss, dtype=np.float64)
    free = 3 if l_min is None else 2
    if len(x) <= free:
        raise ValueError(f"a law with {free} free parameters needs at least {free + 1} runs, found {len(x)}")
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (y > 0).all()):
        raise ValueError("compute and loss must be finite and above 0")
    if l_min is not None and not 0 <= l_min < y.min():
        raise ValueError(f"the floor {l_min:g} must be at least 0 and below all losses (the lowest is {y.min():g})")
    problem = _Problem(x - x.mean(), y)
    best = problem.solve(floor=l_min)
    cost, (alpha, b, floor) = best
    degrees = len(x) - free
    limit = cost * (1 + float(special.fdtri(1, degrees, CONFIDENCE)) / degrees)
    alphas = problem.interval(lambda value: problem.solve(alpha=value, floor=l_min)[0], alpha, limit, 0.05, ALPHAS)
    floors = (floor, floor)
    if l_min is None:
        floors = problem.interval(
            lambda value: problem.solve(floor=value)[0], floor, limit, 0.05 * y.min(), (0.0, y.min() * (1 - 1e-6))
        )
    fitted = np.log(floor + np.exp(b + alpha * problem.x))
    residuals = np.log(y) - fitted
    spread = ((np.log(y) - np.log(y).mean()) ** 2).sum()
    return PowerLaw(
        alpha=alpha,
        b=b - alpha * float(x.mean()),
        l_min=floor,
        alpha_low=alphas[0],
        alpha_high=alphas[1],
        l_min_low=floors[0],
        l_min_high=floors[1],
        r2=float(1 - (residuals**2).sum() / spread) if spread > 0 else 1.0,
        scale=float(math.sqrt((residuals**2).sum() / degrees)),
        freedom=degrees,
        n=len(x),
        low_compute=float(np.exp(x.min())),
        high_compute=float(np.exp(x.max())),
        center=float(x.mean()),
        unit_covariance=_unit_covariance(problem.x, (alpha, b, floor), l_min is None),
    )


def _unit_covariance(
    x: np.ndarray, fitted: tuple[float, float, float], floor_is_free: bool
) -> tuple[tuple[float, ...], ...]:
    """Return the covariance of (alpha, b, l_min) from the linearised problem; it is zero for a fixed floor."""
    alpha, b, floor = fitted
    power = np.exp(b + alpha * x)
    jacobian = np.stack([power * x, power, np.ones_like(x)], axis=1) / (floor + power)[:, None]
    free = 3 if floor_is_free else 2
    result = np.zeros((3, 3))
    result[:free, :free] = np.linalg.pinv(jacobian[:, :free].T @ jacobian[:, :free], hermitian=True)
    return tuple(map(tuple, result.tolist()))


class _Problem:
    """Minimises the robust cost: searches over the floor and, for each floor, fits a line by damped Gauss-Newton."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y, self.log_y = x, y, np.log(y)

    def solve(self, alpha: float | None = None, floor: float | None = None) -> tuple[float, tuple[float, float, float]]:
        """Return (cost, (alpha, b, floor)) of the best fit; given values stay fixed."""
        if floor is not None:
            return self._best(alpha, np.array([floor]))[0]
        lowest = float(self.y.min())
        # Search over log10(1 - floor / smallest loss), since floors close to the smallest loss matter most.
        low, high = -4.0, 0.0
        for _ in range(3):
            exponents = np.linspace(low, high, _GRID)
            best, i = self._best(alpha, lowest * (1 - 10**exponents))
            low, high = exponents[max(0, i - 1)], exponents[min(_GRID - 1, i + 1)]
        return best

    def _best(self, alpha: float | None, floors: np.ndarray) -> tuple[tuple[float, tuple[float, float, float]], int]:
        cost, slopes, intercepts = self._lines(alpha, floors)
        i = int(np.argmin(cost))
        return (float(cost[i]), (float(slopes[i]), float(intercepts[i]), float(floors[i]))), i

    def _lines(self, alpha: float | None, floors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (cost, slope, intercept) for all floors at once."""
        a, b = self._start(alpha, floors)
        cost, u, residual = self._model(a, b, floors)
        damping, still = np.full(len(floors), 1e-3), 0
        for _ in range(_STEPS):
            # Reweighting turns the soft L1 loss into weighted least squares.
            weight = u * u / np.sqrt(1 + (residual / ROBUST_SCALE) ** 2)
            pull = residual / np.maximum(u, 1e-300)
            s0, s1, s2 = weight.sum(1), (weight * self.x).sum(1), (weight * self.x**2).sum(1)
            g0, g1 = (weight * pull).sum(1), (weight * pull * self.x).sum(1)
            d0, d2 = s0 * (1 + damping), s2 * (1 + damping)
            if alpha is None:
                determinant = np.maximum(d0 * d2 - s1 * s1, 1e-300)
                step_b, step_a = (d2 * g0 - s1 * g1) / determinant, (d0 * g1 - s1 * g0) / determinant
            else:
                step_b, step_a = g0 / np.maximum(d0, 1e-300), np.zeros_like(g0)
            tried = self._model(a + step_a, b + step_b, floors)
            better = tried[0] <= cost
            a, b = np.where(better, a + step_a, a), np.where(better, b + step_b, b)
            gain = np.where(better, cost - tried[0], 0.0)
            cost, u, residual = (
                np.where(better if old.ndim == 1 else better[:, None], new, old)
                for new, old in zip(tried, (cost, u, residual), strict=True)
            )
            damping = np.clip(np.where(better, damping / 5, damping * 10), 1e-12, 1e12)
            still = still + 1 if (gain <= 1e-7 * cost).all() else 0
            if still == 3:
                break
        return cost, a, b

    def _model(self, a: np.ndarray, b: np.ndarray, floors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (cost, d log L / d b, residual of log L) for each floor."""
        power = np.exp(np.clip(b[:, None] + a[:, None] * self.x, -700, 700))
        total = floors[:, None] + power
        residual = self.log_y - np.log(np.maximum(total, 1e-300))
        cost = ROBUST_SCALE**2 * (np.sqrt(1 + (residual / ROBUST_SCALE) ** 2) - 1).sum(1)
        return cost, power / np.maximum(total, 1e-300), residual

    def _start(self, alpha: float | None, floors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return (slopes, intercepts) of lines through log(L - floor), weighted because its errors are L / (L - floor) larger."""
        excess = np.maximum(self.y - floors[:, None], 1e-9 * self.y)
        weight, logs = (excess / self.y) ** 2, np.log(excess)
        total = weight.sum(1)
        mean_x, mean_y = (weight * self.x).sum(1) / total, (weight * logs).sum(1) / total
        dx = self.x - mean_x[:, None]
        slope = (weight * dx * (logs - mean_y[:, None])).sum(1) / np.maximum((weight * dx * dx).sum(1), 1e-300)
        slope = slope if alpha is None else np.full_like(slope, alpha)
        return slope, mean_y - slope * mean_x

    @staticmethod
    def interval(cost, best: float, limit: float, step: float, bounds: tuple[float, float]) -> tuple[float, float]:  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Return where the profile of the cost crosses the limit on either side, or the bound if it does not."""
        from scipy import optimize  # loads slowly, and a report of an unchanged table fits nothing

        ends = []
        for sign, bound in ((-1, bounds[0]), (1, bounds[1])):
            inside, distance = best, step
            while True:
                outside = best + sign * distance
                if sign * (outside - bound) >= 0:
                    outside = bound
                if cost(outside) > limit:
                    ends.append(
                        float(optimize.brentq(lambda v: cost(v) - limit, inside, outside, xtol=0.01 * abs(step)))
                    )
                    break
                if outside == bound:
                    ends.append(bound)
                    break
                inside, distance = outside, 2 * distance
        return ends[0], ends[1]


def frontier(compute: Sequence[float], loss: Sequence[float]) -> list[int]:
    """Return the indices of the runs that no cheaper run matches, sorted by compute."""
    order = sorted(range(len(compute)), key=lambda i: (compute[i], loss[i]))
    best, kept = math.inf, []
    for i in order:
        if loss[i] < best:
            best = loss[i]
            kept.append(i)
    return kept
