"""Regularizers: what training asks of latents besides reconstruction. They combine freely; sampling never loads one."""
