"""How a tokenizer uses its codebook: usage, entropies, skewness (CRT paper, section 4)."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CodebookStatistics:
    """Codebook statistics over a set of images; entropies are in bits.

    `usage`: share of codes that occur. `entropy`: of all tokens pooled. `position_entropy`: of each
    position separately, (positions,). `skewness`: 1 - 2^(mean position entropy) / 2^entropy.
    """

    usage: float
    perplexity: float
    entropy: float
    position_entropy: np.ndarray
    skewness: float


def codebook_statistics(tokens: np.ndarray, codebook_size: int) -> CodebookStatistics:
    """Return the statistics of tokens (images, positions)."""
    counts = np.bincount(tokens.ravel(), minlength=codebook_size)
    entropy = _entropy_bits(counts)
    per_position = np.array(
        [_entropy_bits(np.bincount(tokens[:, i], minlength=codebook_size)) for i in range(tokens.shape[1])]
    )
    return CodebookStatistics(
        usage=float((counts > 0).mean()),
        perplexity=float(2**entropy),
        entropy=entropy,
        position_entropy=per_position,
        skewness=float(1 - 2 ** (per_position.mean() - entropy)),
    )


def perplexity_share(counts: np.ndarray) -> float:
    """Return the perplexity of code counts (codes,) as a share of the codebook size: 1 where all codes are equally frequent."""
    return float(2 ** _entropy_bits(counts)) / len(counts)


def unigram_nats(train: np.ndarray, held_out: np.ndarray) -> float:
    """Return the nats per token that code frequencies alone achieve, from counts by code (codes,) of both splits.

    This is the loss of a model that ignores neighbours, positions and classes. Training counts are smoothed by adding
    one to each.
    """
    share = (train + 1) / (train + 1).sum()
    return float(-(held_out * np.log(share)).sum() / held_out.sum())


def _entropy_bits(counts: np.ndarray) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())
