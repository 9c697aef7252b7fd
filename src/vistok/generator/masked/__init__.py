"""Masked generators: a transformer that fills in tokens, many at a time, in a few steps."""
