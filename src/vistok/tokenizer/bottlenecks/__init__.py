"""Bottlenecks: encoder outputs to latents and back; one abstract class, one output type, one file per idea."""
