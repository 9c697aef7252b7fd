"""Scores: tensors in, numbers out. Every score names its protocol and its treatment."""
