"""Stage 2: models of token grids. They see integers and classes, never pixels."""
