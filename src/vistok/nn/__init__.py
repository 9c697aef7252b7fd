"""Layers that at least two parts share."""
