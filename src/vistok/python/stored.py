"""The scores that a run has."""

from pathlib import Path

from vistok.metrics.protocol import Score
from vistok.scoring import evaluations


def stored_scores(run: Path) -> list[Score]:
    """Return all scores in a run's evaluations, oldest first; none if it was not evaluated. Raises UserError for damaged ones."""
    files = (run / "evaluations").glob("*.json")
    return evaluations.stored_scores(sorted(files, key=lambda file: (file.stat().st_mtime, file.name)))
