"""The results of a study: table, fits, claims, advice and report."""
