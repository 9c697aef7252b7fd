"""Running a study: its grid of tasks, its workers and its records."""
