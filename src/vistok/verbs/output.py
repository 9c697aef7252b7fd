"""Where a verb writes the file that it makes: what the user's name for it means, settled before the work begins."""

from pathlib import Path

from vistok.data.images.names import image_suffixes
from vistok.errors import UserError


def output_file(out: Path, default: str, suffixes: tuple[str, ...]) -> Path:
    """Return the file that `out` means: in a folder the one called `default`, else `out` itself.

    A name without a suffix gets the first of `suffixes`; `cfg1.5` has none and becomes `cfg1.5.png`. Raises UserError
    where the name ends as another kind of file does, or is a folder's.
    """
    if out.is_dir():
        return _takeable(out / default)
    suffix = out.suffix.lower()
    if suffix in suffixes:
        return _takeable(out)
    if suffix == ".npz" or suffix in image_suffixes():
        raise UserError(f"--out {out}: cannot be written as {suffix}; end the name in {' or '.join(suffixes)}")
    return _takeable(out.with_name(out.name + suffixes[0]))


def _takeable(place: Path) -> Path:
    if place.is_dir():
        raise UserError(f"--out: {place} is a folder; name a file")
    above = next(parent for parent in place.absolute().parents if parent.exists())
    if not above.is_dir():
        raise UserError(f"--out {place}: {above} is a file, not a folder")
    return place
