"""Scores of finished runs: one file per kind of thing that is scored."""
