"""Stage 1: images to integers and back."""
