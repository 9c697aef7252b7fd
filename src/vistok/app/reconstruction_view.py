"""Reconstructions as HTML: pictures beside each other, and a grid of tokens to click on."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from vistok.app.parts import heading, joined, quiet
from vistok.app.reconstruction import LOUDER, MOST_CHANNELS, Kept, mean_maps
from vistok.files import data_uri

MOST_NUMBERED = 20  # columns whose cells have room for a token's number


def picture_uri(image: Any) -> str:
    """Return a uint8 image (1, channels, height, width) as a URI."""
    from vistok.runs.pictures import png_bytes, sheet

    return data_uri(png_bytes(sheet(image, 1)))


def reconstructions(kept: Sequence[Kept]) -> Markup:
    """Return each tokenizer's reconstruction between the original and the difference."""
    return joined([_one(one) for one in kept])


def _one(kept: Kept) -> Markup:
    shown = (
        ("as the tokenizer takes it", kept.real),
        (f"reconstruction, PSNR {kept.psnr:.2f} dB", kept.fake),
        (f"difference, {LOUDER} times as bright", kept.difference()),
    )
    cells = [
        Markup('<figure><img class="pixels" src="{}" alt="{}"><figcaption>{}</figcaption></figure>').format(
            picture_uri(image), words, words
        )
        for words, image in shown
    ]
    title = heading(f"{kept.name}: {kept.space}")
    return joined([title, Markup('<div class="pictures large">{}</div>').format(joined(cells)), _maps(kept)])


def _maps(kept: Kept) -> Markup:
    if kept.space.kind == "tokens":
        return Markup("")
    maps = [Markup('<figure><img class="pixels" src="{}" alt="map"><figcaption>{}</figcaption></figure>').format(
        picture_uri(image), f"channel {number - 1}" if number else "mean of all"
    ) for number, image in enumerate(mean_maps(kept))]  # fmt: skip
    dim = kept.space.dim
    some = f", the first {MOST_CHANNELS} of them" if dim > MOST_CHANNELS else ""
    words = (
        f"This tokenizer writes vectors and has no tokens to change. Below are the means it encodes to: over all {dim} channels, "
        f"then channel by channel{some}; each from its lowest value (black) to its highest (white)."
    )
    return joined([quiet(words), Markup('<div class="pictures">{}</div>').format(joined(maps))])


def token_grid(kept: Kept, original: Any, chosen: int | None) -> Markup:
    """Return the reconstruction under a grid of buttons, one a token; `original`: the latents before any was changed.

    The tokens of a line, which have no place in the picture, stand below it.
    """
    rows, columns = kept.grid
    tokens, before = kept.latents[0].tolist(), original[0].tolist()
    buttons = []
    for position, token in enumerate(tokens):
        place = place_of(position, columns, rows)
        changed = token != before[position]
        was = f", was {before[position]:,}" if changed else ""
        number = f"{token}" if columns <= MOST_NUMBERED or rows == 1 else ""
        buttons.append(
            Markup(
                '<button type="button" data-token="{}" class="{}" aria-pressed="{}" title="{}">{}</button>'
            ).format(
                position, "changed" if changed else "", "true" if position == chosen else "false",
                f"{place}: token {token:,}{was}", number,
            )
        )  # fmt: skip
    classes, style = "tokens", f"grid-template-columns: repeat({columns}, 1fr); grid-template-rows: repeat({rows}, 1fr)"
    if kept.space.layout.kind == "line":
        classes, style = "tokens strip", ""
    return Markup(
        '<div class="{}"><img class="pixels" src="{}" alt="reconstruction"><div class="cells" style="{}">{}</div></div>'
    ).format(classes, picture_uri(kept.fake), style, joined(buttons))


def place_of(position: int, columns: int, rows: int) -> str:
    """Return where a token lies, in words."""
    if rows == 1:
        return f"position {position + 1}"
    return f"row {position // columns + 1}, column {position % columns + 1}"
