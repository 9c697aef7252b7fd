"""What trains the small classifier network: labels, or two views of every image."""
