"""What latents are (integers or vectors) and how they are arranged (on a grid or in a line)."""

from typing import Annotated, Any, Literal

from pydantic import Field

from vistok.config import Config, later

Side = Annotated[int, Field(ge=1, le=2**14)]


class Grid(Config):
    """Rows and columns in raster order; with several frames, one frame after another."""

    kind: Literal["grid"] = "grid"
    height: Side
    width: Side
    frames: Side = later(1)

    @property
    def positions(self) -> int:
        """Number of latents in an image."""
        return self.frames * self.height * self.width

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    def __str__(self) -> str:
        return (f"{self.frames} frames of " if self.frames > 1 else "") + f"{self.height}x{self.width}"


class Line(Config):
    """A sequence without positions in the image."""

    kind: Literal["line"] = "line"
    length: Annotated[int, Field(ge=1, le=2**20)]

    @property
    def positions(self) -> int:
        """Latents of an image."""
        return self.length

    def __str__(self) -> str:
        return f"a line of {self.length}"


Layout = Annotated[Grid | Line, Field(discriminator="kind")]


def grid_like(layout: Layout, other: Layout) -> Grid | None:
    """Return a layout if it is a grid of another's proportions, else None."""
    if not isinstance(layout, Grid) or not isinstance(other, Grid):
        return None
    return layout if layout.height * other.width == layout.width * other.height else None


class Tokens(Config):
    """Integers in 0...codebook_size - 1; a batch is (images, positions), int64."""

    kind: Literal["tokens"] = "tokens"
    layout: Layout
    codebook_size: int = Field(ge=2)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image's latents."""
        return (self.layout.positions,)

    def __str__(self) -> str:
        return f"{self.layout} tokens of {self.codebook_size} codes"


class Vectors(Config):
    """Vectors of `dim` numbers; a batch is (images, positions, dim), float."""

    kind: Literal["vectors"] = "vectors"
    layout: Layout
    dim: int = Field(ge=1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image's latents."""
        return self.layout.positions, self.dim

    def __str__(self) -> str:
        return f"{self.layout} vectors of {self.dim} numbers"


Space = Annotated[Tokens | Vectors, Field(discriminator="kind")]


def grid(height: int, width: int) -> Grid:
    """Return a grid."""
    return Grid(height=height, width=width)


def token_grid(height: int, width: int, codebook_size: int) -> Tokens:
    """Return the space of a token grid."""
    return Tokens(layout=grid(height, width), codebook_size=codebook_size)


def former_space(found: dict[str, Any]) -> dict[str, Any]:
    """Return a file's contents with `space` in place of `grid` and `codebook_size`, which earlier versions wrote."""
    if "space" in found or not {"grid", "codebook_size"} <= found.keys():
        return found
    rest = {name: value for name, value in found.items() if name not in ("grid", "codebook_size")}
    sides = found["grid"]
    height, width = sides if isinstance(sides, list | tuple) and len(sides) == 2 else (sides, sides)
    layout = {"kind": "grid", "height": height, "width": width}
    return {**rest, "space": {"kind": "tokens", "layout": layout, "codebook_size": found["codebook_size"]}}
