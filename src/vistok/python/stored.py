"""The scores that a run has."""

from pathlib import Path

from vistok.metrics.protocol import Score
from vistok.scoring.evaluations import SCHEMA, read_evaluation, scores_in


def stored_scores(run: Path) -> list[Score]:
    """Return all scores in a run's evaluations, oldest first; none if it was not evaluated. Raises UserError for damaged ones."""
    scores: list[Score] = []
    files = sorted((run / "evaluations").glob("*.json"), key=lambda file: (file.stat().st_mtime, file.name))
    for content in map(read_evaluation, files):
        if content.get("schema_version") == SCHEMA and content.get("kind") != "guidance":
            scores += scores_in(content)
    return scores
