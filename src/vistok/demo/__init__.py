"""The whole comparison on a small scale: two tokenizers, two generators, one page."""
