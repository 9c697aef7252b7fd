"""Scores in words."""

from vistok.metrics.protocol import Score


def in_words(score: Score) -> str:
    """Return a score's name, value and 95 % interval."""
    bounds = "" if score.low is None or score.high is None else f" ({score.low:.4g} to {score.high:.4g})"
    return f"{score.protocol.metric} {score.value:.4g}{bounds}"
