"""What a study found: table, fits, claims, advice, report."""
