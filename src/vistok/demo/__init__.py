"""The main job, small: two tokenizers, two generators, one page."""
