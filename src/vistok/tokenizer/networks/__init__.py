"""Networks of tokenizers: images to what the bottleneck takes, and back."""
