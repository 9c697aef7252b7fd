"""Mixers: layers through which the positions of a sequence exchange information."""
