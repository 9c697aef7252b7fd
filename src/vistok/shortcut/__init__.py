"""Shortcuts: generators made from a trained flow generator, or instead of one, that need fewer calls for an image."""
