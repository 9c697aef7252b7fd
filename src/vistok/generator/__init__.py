"""Stage 2: models of token grids. They know integers and classes, never pixels."""
