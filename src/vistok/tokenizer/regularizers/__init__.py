"""Regularizers: what training asks of latents beside reconstruction. Any combination of them; sampling never loads one."""
