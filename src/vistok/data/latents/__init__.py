"""The interface between the stages: latents on disk."""
