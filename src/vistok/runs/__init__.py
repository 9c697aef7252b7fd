"""Runs: their configs, plans, directories, weights and health."""
