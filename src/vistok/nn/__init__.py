"""Layers that at least two parts of vistok share."""
