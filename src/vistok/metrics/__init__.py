"""Scores: tensors in, numbers out. Every score states its protocol and its treatment."""
