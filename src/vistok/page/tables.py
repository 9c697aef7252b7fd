"""Tables that become cards on a phone: each row a block, each cell behind its heading."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vistok.page.colours import variable
from vistok.page.marks import legend_mark


@dataclass(frozen=True)
class Table:
    """Headings and rows of text (escaped, unless it is Markup). Columns are numbers, but for those of `words`."""

    head: Sequence[str | Markup]
    rows: Sequence[Sequence[str | Markup]]
    words: Sequence[int] = (0,)
    dense: bool = False

    def html(self) -> Markup:
        """Return the table."""
        kinds = [Markup("") if i in self.words else Markup(' class="number"') for i in range(len(self.head))]
        head = Markup("").join(
            Markup('<th scope="col"{}>{}</th>').format(kind, name) for kind, name in zip(kinds, self.head, strict=True)
        )
        plain = [name.striptags() if isinstance(name, Markup) else name for name in self.head]
        rows = Markup("\n").join(
            Markup("<tr>{}</tr>").format(
                Markup("").join(
                    Markup('<td{} data-label="{}">{}</td>').format(kind, name, cell)
                    for kind, name, cell in zip(kinds, plain, row, strict=True)
                )
            )
            for row in self.rows
        )
        dense = Markup(" dense") if self.dense else ""
        return Markup('<table class="cards{}"><thead><tr>{}</tr></thead><tbody>\n{}\n</tbody></table>').format(
            dense, head, rows
        )


def named(colour: int, name: str) -> Markup:
    """Return a name behind its series' mark."""
    return Markup("{}{}").format(Markup(legend_mark(colour)), name)


def swatch(colour: int) -> Markup:
    """Return a small square of a series' colour."""
    return Markup('<span class="swatch" style="background:{}"></span>').format(variable(colour))
