"""Renderers: transformers that draw the tokens of one tokenizer given those of another."""
