"""One's own images."""
