"""The autoregressive family: predicts tokens one by one, each from those before it."""
