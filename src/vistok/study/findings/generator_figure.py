"""A figure of a grid's generators on one tokenizer: the gFMD of each beside that of the first."""

import pandas as pd

from vistok.page.intervals import Rows
from vistok.study.config import Grid
from vistok.study.findings.effects import effect
from vistok.study.findings.figures import COMPARED, multiple


def generators_beside(rows: pd.DataFrame, grid: Grid) -> list[Rows]:
    """Return each generator's gFMD as a multiple of the first's, with and without guidance, paired by tokenizer seed and length.

    Empty for grids of several tokenizers, and where the first generator, or every other, has no runs.
    """
    if rows.tokenizer_choice.nunique() != 1:
        return []
    first, *others = (choice.name for choice in grid.generators)
    turned = rows.assign(tokenizer_choice=rows.choice, choice=rows.tokenizer_choice)
    panels = []
    for column in ("gfmd", "gfmd_unguided"):
        effects = {name: effect(turned, first, name, column) for name in others}
        shown = [multiple(found, name, 0, f"the gFMD of {first}") for name, found in effects.items() if found]
        small = "; small: single seeds" if any(row.points for row in shown) else ""
        title = f"gFMD, as a multiple of that of {first}: {COMPARED[column]}"
        over = "mean over lengths" if turned.length.nunique() > 1 else "mean over seeds"
        panels.append(Rows(title, shown, f"{over}{small}", log=True, references={f"as {first}": 1.0}))
    return [panel for panel in panels if panel.rows]
