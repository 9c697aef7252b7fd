"""How well tokens are guessed from their neighbours by counting alone: a probe of how easy a tokenizer's tokens are to model."""

from dataclasses import dataclass

import numpy as np

# Passes over the held-out tokens in which the shares of the counts are found (expectation-maximisation).
PASSES = 20


def neighbour_nats(train: np.ndarray, held_out: np.ndarray, codes: int, columns: int) -> float:
    """Return nats per token of a mixture of counts: of codes alone, and of codes after the token before and after the one above.

    `train`, `held_out`: tokens (images, positions), in raster order on a grid of `columns`; on a line, `columns` 1 leaves
    the token above out. Counts are of `train`. The shares of the mixture are those that suit every other image of
    `held_out` (which may be sorted by class); the rest is measured. A token without a neighbour is guessed from the others.
    """
    first, second = held_out[::2], held_out[1::2]
    alone, tables = _tables(train, codes, columns)
    guesses = _guesses(alone, tables, first, columns)
    shares = np.full(len(guesses), 1 / len(guesses))
    for _ in range(PASSES):
        weighted = shares[:, None] * guesses
        shares = (weighted / weighted.sum(axis=0)).mean(axis=1)
    return float(-np.log(shares @ _guesses(alone, tables, second, columns)).mean())


def _pairs(tokens: np.ndarray, columns: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (token before, token) and, on a grid, (token above, token), both by image and position; -1 where there is none."""
    nothing = np.full((len(tokens), 1), -1, dtype=tokens.dtype)
    before = np.concatenate([nothing, tokens[:, :-1]], axis=1)
    if columns == 1:
        return [(before, tokens)]
    before = before.copy()
    before[:, ::columns] = -1
    above = np.concatenate([np.repeat(nothing, columns, axis=1), tokens[:, :-columns]], axis=1)
    return [(before, tokens), (above, tokens)]


def _tables(train: np.ndarray, codes: int, columns: int) -> tuple[np.ndarray, list["_Counts"]]:
    """Return the probabilities of codes, (codes,), and the counts of codes by each kind of neighbour."""
    alone = np.bincount(train.ravel(), minlength=codes) + 1.0
    return alone / alone.sum(), [_Counts.of(*pair, codes) for pair in _pairs(train, columns)]


@dataclass(frozen=True)
class _Counts:
    """How often each code follows each neighbour: of the pairs that occur, as all codes by all codes may not fit into memory.

    `pairs`: neighbour * codes + code, in order. `of_neighbour`: (codes + 1,), the last for none.
    """

    pairs: np.ndarray
    counts: np.ndarray
    of_neighbour: np.ndarray
    codes: int

    @classmethod
    def of(cls, neighbour: np.ndarray, tokens: np.ndarray, codes: int) -> "_Counts":
        places, counts = np.unique(_places(neighbour, tokens, codes), return_counts=True)
        before = np.bincount((neighbour % (codes + 1)).ravel(), minlength=codes + 1)
        return cls(places, counts, before, codes)

    def probability(self, alone: np.ndarray, neighbour: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Return the probability of each token after its neighbour, (tokens,); what was never seen says what codes alone say."""
        places = _places(neighbour, tokens, self.codes)
        found = np.minimum(np.searchsorted(self.pairs, places), len(self.pairs) - 1)
        seen = np.where(self.pairs[found] == places, self.counts[found], 0)
        total = self.of_neighbour[(neighbour % (self.codes + 1)).ravel()]
        return (seen + alone[tokens.ravel()]) / (total + 1)


def _places(neighbour: np.ndarray, tokens: np.ndarray, codes: int) -> np.ndarray:
    return ((neighbour.astype(np.int64) % (codes + 1)) * codes + tokens).ravel()


def _guesses(alone: np.ndarray, tables: list[_Counts], tokens: np.ndarray, columns: int) -> np.ndarray:
    """Return the probability of each token by codes alone and by each kind of neighbour, (tables + 1, tokens)."""
    pairs = _pairs(tokens, columns)
    return np.stack(
        [alone[tokens.ravel()], *(t.probability(alone, *pair) for t, pair in zip(tables, pairs, strict=True))]
    )
