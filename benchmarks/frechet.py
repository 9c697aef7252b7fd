"""Fréchet distance at 2,048 dimensions: time against others, and error against closed forms."""

from common import alternate, arguments, entry, median, save  # first: it sets the threads of what is loaded after it

# isort: split
from collections.abc import Callable

import numpy as np


def moments(mean: np.ndarray, covariance: np.ndarray):  # noqa: ANN201
    from vistok.metrics.moments import Moments

    return Moments(10_000, mean, covariance * 9_999)


def closed_forms(dimensions: int) -> float:
    """Return the greatest relative error over cases whose distance is known: commuting and singular covariances."""
    from vistok.metrics.frechet import frechet_distance

    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((dimensions, dimensions)))[0]
    worst = 0.0
    for rank_a, rank_b in ((dimensions, dimensions), (dimensions // 2, dimensions), (dimensions // 3, dimensions // 2)):
        a, b = (np.where(np.arange(dimensions) < rank, rng.uniform(0.1, 2, dimensions), 0) for rank in (rank_a, rank_b))
        mean = rng.standard_normal(dimensions)
        expected = mean @ mean + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
        one, two = (moments(m, (basis * values) @ basis.T) for m, values in ((mean, a), (0 * mean, b)))
        worst = max(worst, abs(frechet_distance(one, two) / expected - 1))
    return worst


def peers(a, b) -> dict[str, Callable[[], float]]:  # noqa: ANN001
    """Return the formula by scipy.linalg.sqrtm and the distances of the packages that people score with."""
    import torch
    from cleanfid.fid import frechet_distance as clean_fid
    from scipy import linalg
    from torch_fidelity.metric_fid import fid_statistics_to_metric
    from torchmetrics.image.fid import _compute_fid

    def sqrtm() -> float:
        root = linalg.sqrtm(a.covariance @ b.covariance).real
        d = a.mean - b.mean
        return float(d @ d + np.trace(a.covariance) + np.trace(b.covariance) - 2 * np.trace(root))

    values = (a.mean, a.covariance, b.mean, b.covariance)
    first, second = ({"mu": m.mean, "sigma": m.covariance} for m in (a, b))
    tensors = [torch.from_numpy(value) for value in values]
    return {
        "scipy.linalg.sqrtm": sqrtm,
        "clean-fid": lambda: float(clean_fid(*values)),
        "torch-fidelity": lambda: fid_statistics_to_metric(first, second, False)["frechet_inception_distance"],
        "torchmetrics": lambda: float(_compute_fid(*tensors)),
    }


def main() -> None:
    from vistok.metrics.frechet import frechet_distance
    from vistok.metrics.moments import Moments

    options = arguments(__doc__, dimensions={"type": int, "default": 2048})
    rng = np.random.default_rng(0)
    a, b = (Moments.of(rng.standard_normal((10_000, options.dimensions)) * scale + 0.1) for scale in (1.0, 1.1))
    others = peers(a, b)
    found = alternate(options.repeats, ours=lambda: frechet_distance(a, b), **others)
    seconds = {name: median(values) for name, values in found.items()}
    results = [
        entry(f"distance, {options.dimensions} dimensions, against {name}", seconds["ours"], seconds[name], "s",
              5.0 if name.startswith("scipy") else None)
        for name in others
    ]  # fmt: skip
    distance = frechet_distance(a, b)
    results += [
        entry(f"difference from {name}", abs(distance / other() - 1), None, "relative", 1e-6)
        for name, other in others.items()
    ]
    results.append(
        entry("error, closed forms, singular ones too", closed_forms(options.dimensions), None, "relative", 1e-6)
    )
    save("frechet", results, "Fréchet distance")


if __name__ == "__main__":
    main()
