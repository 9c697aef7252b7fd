"""Words above the columns of a sheet: class names in a font that comes with matplotlib."""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vistok.errors import printable
from vistok.runs.pictures import GAP

SIZE = 12  # pixels
LINES = 2
LINE = SIZE + 3


def caption_height(captions: Sequence[str], width: float) -> int:
    """Return the pixels that captions take above a row of images of this width."""
    return max(len(_lines(caption, width)) for caption in captions) * LINE + GAP if any(captions) else 0


def with_captions(picture: Image.Image, captions: Sequence[str], width: float, pitch: float) -> Image.Image:
    """Return a sheet with a caption above each of its columns: images of this width, at this distance."""
    above = caption_height(captions, width)
    canvas = Image.new("RGB", (picture.width, picture.height + above), "white")
    canvas.paste(picture, (0, above))
    draw = ImageDraw.Draw(canvas)
    for column, caption in enumerate(captions):
        lines = _lines(caption, width)
        for number, line in enumerate(lines):
            bottom = above - 2 * GAP - (len(lines) - number - 1) * LINE
            draw.text((round(column * pitch), bottom), line, fill="black", font=_font(), anchor="ls")
    return canvas


def shown_name(name: str, number: int) -> str:
    """Return a class's name if the font has all of its characters, else its number."""
    text = " ".join(printable(name).split())
    return text if text and all(_has(character) for character in text) else f"class {number}"


def _lines(text: str, width: float) -> list[str]:
    """Return text in at most two lines above an image of so many pixels; what does not fit is cut, with an ellipsis."""
    lines, width = [""], width - 2 * GAP
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if _font().getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    kept = [*lines[: LINES - 1], " ".join(lines[LINES - 1 :])]
    return [_cut(line, width) for line in kept if line]


def _cut(line: str, width: float) -> str:
    if _font().getlength(line) <= width:
        return line
    while line and _font().getlength(f"{line}…") > width:
        line = line[:-1]
    return f"{line}…"


@cache
def _font() -> ImageFont.FreeTypeFont:
    spec = find_spec("matplotlib")  # its fonts can be read without importing it, which takes half a second
    assert spec is not None and spec.origin is not None
    return ImageFont.truetype(str(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"), SIZE)


def _has(character: str) -> bool:
    """Whether the font can show a character: for those it lacks, it draws the same box as for one that does not exist."""
    return character == " " or _drawn(character) != _drawn("\uffff")


@cache
def _drawn(character: str) -> bytes:
    return bytes(_font().getmask(character))
