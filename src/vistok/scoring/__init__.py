"""Scores of finished runs: one file for each kind of thing that is scored."""
