"""Import and export of other projects' checkpoints."""
