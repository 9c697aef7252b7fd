"""Scores in words."""

from vistok.errors import bounds
from vistok.metrics.protocol import Score


def in_words(score: Score) -> str:
    """Return a score's name, value and 95 % interval."""
    return f"{score.protocol.metric} {score.value:.4g}{bounds(score.value, score.low, score.high, digits=4)}"
