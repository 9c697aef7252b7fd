"""Whether a run came out alive: measures, alarms, advice, and what is recorded of them."""
