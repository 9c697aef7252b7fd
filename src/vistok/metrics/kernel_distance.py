"""Kernel distance (KID: Bińkowski et al. 2018, arXiv 1801.01401): unbiased for any number of samples."""

import numpy as np
import torch
from torch import Tensor

from vistok.metrics.interval import BLOCKS, Replicates, blocks_of
from vistok.rng import numpy_generator

SUBSETS, SUBSET_SIZE = 100, 1_000


def kernel_distance(fake: np.ndarray, real: np.ndarray, paired: bool = False) -> Replicates:
    """Return the squared maximum mean discrepancy of features (samples, features) with kernel (x.y / features + 1)^3.

    It is averaged over 100 subsets of 1,000 samples of each kind (fewer if there are fewer), drawn with a fixed seed.
    Replicates leave blocks of fakes out of all subsets. `paired`: row i of `fake` is the reconstruction of row i of
    `real`. Then a subset holds both, a block is left out of both, and an image is never compared with its own
    reconstruction (Gretton et al. 2012, equation 4), to which it is closer than chance.

    Raises ValueError for fewer than 2 samples of either kind.
    """
    subsets, size = _subsets(len(fake), len(real))
    if size < 2:
        raise ValueError(f"a kernel distance needs at least 2 samples of each kind, found {len(fake)} and {len(real)}")
    block_of = np.zeros(len(fake), dtype=np.int64)
    for number, block in enumerate(blocks_of(len(fake))):
        block_of[block] = number
    sums = np.zeros(1 + BLOCKS)
    for number in range(subsets):
        fake_rows = _chosen(len(fake), size, "fake", number)
        real_rows = fake_rows if paired else _chosen(len(real), size, "real", number)
        blocks = torch.nn.functional.one_hot(torch.from_numpy(block_of[fake_rows]), BLOCKS).double()
        x, y = torch.from_numpy(fake[fake_rows]), torch.from_numpy(real[real_rows])
        sums += _paired(x, y, blocks) if paired else _unpaired(x, y, blocks)
    value, *left_out = (sums / subsets).tolist()
    return Replicates(value, tuple(left_out) if size >= 2 * BLOCKS else ())


def kernel_estimator(fakes: int, reals: int, paired: bool = False) -> str:
    """Return the estimator's description in protocols, for these numbers of samples."""
    subsets, size = _subsets(fakes, reals)
    of = f"all {size} images" if subsets == 1 else f"{subsets} subsets of {size}"
    pairs = ", each left out of reconstructions and originals, none against its own" if paired else ""
    return f"kernel (x.y/d + 1)^3, unbiased, mean over {of}; jackknife over {BLOCKS} blocks{pairs}"


def _subsets(fakes: int, reals: int) -> tuple[int, int]:
    """Return the number of subsets and their size."""
    size = min(fakes, reals, SUBSET_SIZE)
    return 1 if size == fakes == reals else SUBSETS, size


def _chosen(count: int, size: int, kind: str, number: int) -> np.ndarray:
    return numpy_generator(0, "kernel distance", kind, number).choice(count, size, replace=False)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    value = (x @ y.T).div_(x.shape[1]).add_(1)
    return value * value * value


def _unpaired(x: Tensor, y: Tensor, blocks: Tensor) -> np.ndarray:
    """Return the distance from all samples, and with each block of x left out."""
    within_x, (count, left) = _sums_without_blocks(_kernel(x, x).fill_diagonal_(0), blocks), _counts(blocks)
    within_y = _kernel(y, y).fill_diagonal_(0).sum(dtype=torch.float64) / (len(y) * (len(y) - 1))
    across = blocks.T @ _kernel(x, y).sum(dim=1, dtype=torch.float64)
    cross = torch.cat([across.sum()[None], across.sum() - across])
    counts = torch.cat([count, left])
    return (within_x / (counts * (counts - 1)) + within_y - 2 * cross / (counts * len(y))).numpy()


def _paired(x: Tensor, y: Tensor, blocks: Tensor) -> np.ndarray:
    cross = _kernel(x, y)
    pairs = (_kernel(x, x) + _kernel(y, y) - cross - cross.T).fill_diagonal_(0)
    counts = torch.cat(_counts(blocks))
    return (_sums_without_blocks(pairs, blocks) / (counts * (counts - 1))).numpy()


def _counts(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """Return the number of samples, in all and with each block left out."""
    count = torch.tensor([float(len(blocks))], dtype=torch.float64)
    return count, count - blocks.sum(dim=0)


def _sums_without_blocks(matrix: Tensor, blocks: Tensor) -> Tensor:
    """Return the sum of a symmetric matrix, in all and without the rows and columns of each block."""
    # Sums over each row's blocks keep the matrix's precision; sums of these are in float64.
    sums = blocks.T @ (matrix @ blocks.to(matrix.dtype)).double()
    return torch.cat([sums.sum()[None], sums.sum() - 2 * sums.sum(dim=1) + sums.diagonal()])
