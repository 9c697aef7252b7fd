"""Training machinery. It knows nothing about models, only phases and batches."""
