"""Everything in seconds: for tests and for looking around."""
