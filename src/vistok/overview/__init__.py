"""Finished and unfinished runs, read from their directories: what they are, how they go, their pages and tables."""
