"""Mixers: what lets positions of a block see each other."""
