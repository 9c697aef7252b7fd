"""How well tokens are guessed from their neighbours by counting alone: a probe of how easy a tokenizer's tokens are to model."""

import numpy as np

# Passes over the held-out tokens in which the shares of the counts are found (expectation-maximisation).
PASSES = 20


def neighbour_nats(train: np.ndarray, held_out: np.ndarray, codes: int, columns: int) -> float:
    """Return nats per token of a mixture of counts: of codes alone, and of codes after the token before and after the one above.

    `train`, `held_out`: tokens (images, positions), in raster order on a grid of `columns`; on a line, `columns` 1 leaves
    the token above out. Counts are of `train`. The shares of the mixture are those that suit the first half of
    `held_out`; the second half is measured. A token without a neighbour is guessed from the rest.
    """
    first, second = np.array_split(held_out, 2)
    tables = _tables(train, codes, columns)
    guesses = _guesses(tables, first, columns)
    shares = np.full(len(guesses), 1 / len(guesses))
    for _ in range(PASSES):
        weighted = shares[:, None] * guesses
        shares = (weighted / weighted.sum(axis=0)).mean(axis=1)
    return float(-np.log(shares @ _guesses(tables, second, columns)).mean())


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


def _tables(train: np.ndarray, codes: int, columns: int) -> list[np.ndarray]:
    """Return probabilities of codes, and of codes by neighbour, (codes + 1, codes): the last row is for no neighbour."""
    alone = np.bincount(train.ravel(), minlength=codes) + 1.0
    tables = [alone[None] / alone.sum()]
    for neighbour, tokens in _pairs(train, columns):
        place = (neighbour % (codes + 1)).astype(np.int64) * codes + tokens
        counts = np.bincount(place.ravel(), minlength=(codes + 1) * codes).reshape(codes + 1, codes).astype(np.float64)
        counts += tables[0]  # a row that was never seen says what codes alone say
        tables.append(counts / counts.sum(axis=1, keepdims=True))
    return tables


def _guesses(tables: list[np.ndarray], tokens: np.ndarray, columns: int) -> np.ndarray:
    """Return each table's probability of each token, (tables, tokens)."""
    codes = tables[0].shape[1]
    found = [tables[0][0, tokens.ravel()]]
    for table, (neighbour, _) in zip(tables[1:], _pairs(tokens, columns), strict=True):
        found.append(table[(neighbour % (codes + 1)).ravel(), tokens.ravel()])
    return np.stack(found)
