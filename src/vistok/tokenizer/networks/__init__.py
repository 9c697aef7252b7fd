"""Tokenizer networks: from images to the bottleneck's input, and back."""
