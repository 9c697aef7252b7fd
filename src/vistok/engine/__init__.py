"""Training machinery. It knows no model: it sees phases and batches."""
