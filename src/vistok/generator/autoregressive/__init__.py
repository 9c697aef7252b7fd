"""The autoregressive family: tokens one by one, each given those before it."""
