"""Pieces of HTML that the app's pages share. Whatever is put into them is escaped."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from vistok.errors import printable


def page(*parts: str) -> str:
    """Return parts as one block with vistok's look."""
    return str(Markup('<div class="vistok">{}</div>').format(joined(parts)))


def joined(parts: Sequence[str]) -> Markup:
    """Return parts one after another; those that are plain text are escaped."""
    return Markup("").join(parts)


def said(text: str, tone: str = "") -> Markup:
    """Return a sentence in a box; `tone`: "good", "warn" or "bad"."""
    return Markup('<p class="answer {}">{}</p>').format(tone, printable(text))


def quiet(text: str) -> Markup:
    """Return a remark."""
    return Markup('<p class="quiet">{}</p>').format(printable(text))


def heading(text: str) -> Markup:
    """Return the title of a section."""
    return Markup("<h2>{}</h2>").format(text)


def to_copy(text: str, what: str = "") -> Markup:
    """Return text in a box with a button that copies it; `what` says what it is."""
    title = quiet(what) if what else ""
    return Markup('<div class="copied">{}<pre>{}</pre><button type="button" class="copy">Copy</button></div>').format(
        title, text
    )


def folded(summary: str, *parts: str) -> Markup:
    """Return parts that are shown when their summary is clicked."""
    return Markup("<details><summary>{}</summary>{}</details>").format(summary, joined(parts))


def table(headings: Sequence[str], rows: Sequence[Sequence[Any]], numbers: Sequence[int] = ()) -> Markup:
    """Return a table that becomes cards on a phone; `numbers`: which columns are set to the right."""
    kind = ["number" if column in numbers else "" for column in range(len(headings))]
    head = joined([Markup('<th class="{}">{}</th>').format(kind[i], text) for i, text in enumerate(headings)])
    body = joined([
        Markup("<tr>{}</tr>").format(joined([
            Markup('<td class="{}" data-label="{}">{}</td>').format(kind[i], headings[i], cell) for i, cell in enumerate(row)
        ]))
        for row in rows
    ])  # fmt: skip
    return Markup('<table class="cards"><tr class="head">{}</tr>{}</table>').format(head, body)


def download(uri: str, name: str, words: str) -> Markup:
    """Return a link that saves what a data URI holds as a file of this name."""
    return Markup('<a class="save" href="{}" download="{}">{}</a>').format(uri, name, words)
