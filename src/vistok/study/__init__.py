"""Studies: grids of runs, and what they give: one table, scaling laws, verdicts on claims, and advice for a budget."""
