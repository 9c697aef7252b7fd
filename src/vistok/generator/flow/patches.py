"""The positions of a flow's transformer: patches of latents."""

from vistok.errors import UserError
from vistok.space import Grid, Layout, Line, grid


def coarse_layout(layout: Layout, patch: int) -> Layout:
    """Return the layout of patches. Raises UserError if latents do not divide into them."""
    sides = layout.sides if isinstance(layout, Grid) else (layout.positions,)
    if any(side % patch for side in sides):
        raise UserError(f"generator.patch {patch}: latents lie on {layout}, which it does not divide; use patch 1")
    if isinstance(layout, Grid):
        return grid(layout.height // patch, layout.width // patch)
    return Line(length=layout.length // patch)
