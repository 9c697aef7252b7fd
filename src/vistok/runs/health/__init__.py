"""Whether a run is healthy: measurements, alarms, advice, and the record that is kept of them."""
