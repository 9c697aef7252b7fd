"""Where a verb writes its output: what the user's --out means, settled before the work begins."""

import os
from pathlib import Path

from vistok.data.images.names import image_suffixes
from vistok.errors import UserError


def output_file(out: Path, default: str, suffixes: tuple[str, ...]) -> Path:
    """Return the file that `out` stands for: `default` inside it if it is a folder, else `out` itself.

    A name without a known suffix gets the first of `suffixes`: `cfg1.5` becomes `cfg1.5.png`. Raises UserError if the
    name ends like another kind of file, is taken by a folder or a device, or lies where nothing may be written.
    """
    if out.is_dir():
        return _require_writable(out / default)
    if out.exists() and not out.is_file():
        raise UserError(f"--out {out}: neither a file nor a folder; choose another place")
    suffix = out.suffix.lower()
    if suffix in suffixes:
        return _require_writable(out)
    if suffix == ".npz" or suffix in image_suffixes():
        raise UserError(f"--out {out}: cannot be written as {suffix}; end the name in {' or '.join(suffixes)}")
    return _require_writable(out.with_name(out.name + suffixes[0]))


def _require_writable(place: Path) -> Path:
    if place.is_dir():
        raise UserError(f"--out: {place} is a folder; name a file")
    parent = next(parent for parent in place.absolute().parents if parent.exists())
    if not parent.is_dir():
        raise UserError(f"--out {place}: {parent} is a file, not a folder")
    if not os.access(parent, os.W_OK):
        raise UserError(f"--out {place}: nothing may be written in {parent}; choose another place")
    return place
