"""Images and token caches: sources, transforms, an index-driven loader."""
