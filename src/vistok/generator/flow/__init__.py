"""Flow generators: a transformer that turns noise into vectors along a path of time."""
