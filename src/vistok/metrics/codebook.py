"""How a tokenizer uses its codes: usage, entropies, skewness (CRT paper, section 4)."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CodebookStatistics:
    """Over a stated set of images. Entropies in bits.

    usage: share of codes that occur. entropy: of all tokens together. position_entropy: of each
    position alone, (positions,). skewness: 1 - 2^(mean position entropy) / 2^entropy.
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
    """Return the perplexity of codes that occur so often, (codes,), as a share of their number: 1 where all are alike."""
    return float(2 ** _entropy_bits(counts)) / len(counts)


def unigram_nats(train: np.ndarray, held_out: np.ndarray) -> float:
    """Return the nats per token of held-out tokens by how often each code occurs in training, one added to each.

    Of counts by code, (codes,) both: what a model gives that knows of no neighbour, place or class.
    """
    share = (train + 1) / (train + 1).sum()
    return float(-(held_out * np.log(share)).sum() / held_out.sum())


def _entropy_bits(counts: np.ndarray) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log2(share)).sum())
