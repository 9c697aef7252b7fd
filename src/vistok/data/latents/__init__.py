"""The boundary between the stages: latents on disk."""
