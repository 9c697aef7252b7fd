"""Maps of numbers over a grid, such as a loss by position: cells with a colour's strength, read out under the pointer."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from vistok.page.axes import number
from vistok.page.colours import variable

WIDTH, FOOT = 400, 34


@dataclass(frozen=True)
class Map:
    """Values of a grid, rows from the top. Those above 0 get the series' colour `above`, those below 0 `below`.

    A value at `limit` (default: the largest size on the map) has the full colour, 0 has none.
    """

    title: str
    values: Sequence[Sequence[float]]
    unit: str = ""
    above: int = 1
    below: int = 0
    limit: float = 0.0

    def figure(self) -> Markup:
        """Return the map with its title and a line that reads out the cell under the pointer."""
        return Markup('<figure><div class="chart-title">{}</div>{}<div class="readout"></div></figure>').format(
            self.title, Markup(self.svg())
        )

    def svg(self) -> str:
        """Return the drawing alone."""
        columns = max(len(row) for row in self.values)
        side = WIDTH / max(columns, len(self.values))
        left, bottom = (WIDTH - side * columns) / 2, side * len(self.values)
        known = [abs(value) for row in self.values for value in row if math.isfinite(value)]
        limit = self.limit or max(known, default=0.0) or 1.0
        cells, points = [], []
        for i, row in enumerate(self.values):
            for j, value in enumerate(row):
                if not math.isfinite(value):
                    continue
                x, y = left + side * j, side * i
                cells.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}" '
                    f'fill="{variable(self.above if value > 0 else self.below)}" opacity="{min(1, abs(value) / limit):.3f}"/>'
                )
                text = f"row {i}, column {j}: {number(value)} {self.unit}"
                points.append({"x": round(x + side / 2, 1), "y": round(y + side / 2, 1), "text": text})
        return "".join([
            f'<svg class="chart map" shape-rendering="crispEdges" viewBox="0 0 {WIDTH} {bottom + FOOT:.0f}" role="img" aria-label="{escape(self.title)}" '
            f'data-vertical="1" data-points="{escape(json.dumps(points))}">',
            *cells,
            f'<rect class="frame" x="{left:.1f}" y="0" width="{side * columns:.1f}" height="{bottom:.1f}"/>',
            *self._scale(bottom + 8, limit, any(v < 0 for row in self.values for v in row)),
            '<line class="cursor" style="display:none"/></svg>',
        ])  # fmt: skip

    def _scale(self, top: float, limit: float, both: bool) -> list[str]:
        """Return the colours' scale below the map: from 0, or from -limit, to the limit."""
        shares = [step / 10 for step in range(-10 if both else 0, 11)]
        width = 160 / len(shares)
        start = (WIDTH - 160) / 2
        parts = [
            f'<rect x="{start + width * i:.1f}" y="{top:.1f}" width="{width:.1f}" height="10" '
            f'fill="{variable(self.above if share > 0 else self.below)}" opacity="{abs(share):.2f}"/>'
            for i, share in enumerate(shares)
        ]
        ends = (number(float(f"{-limit if both else 0:.3g}")), f"{number(float(f'{limit:.3g}'))} {self.unit}")
        parts.append(f'<text x="{start - 6:.0f}" y="{top + 10:.1f}" text-anchor="end">{ends[0]}</text>')
        parts.append(f'<text x="{start + 166:.0f}" y="{top + 10:.1f}">{escape(ends[1])}</text>')
        return parts
