"""What a run is: its config, plan, directory, weights and health."""
