"""How a study is run: its grid, workers and records."""
