"""Studies: grids of runs, one table, scaling laws, verdicts on claims, and advice for a budget."""
