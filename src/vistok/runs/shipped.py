"""What ships with the package: tokenizer-generator pairs, which draw pictures at once, and networks to start from."""

from importlib.resources import files
from pathlib import Path

_FOLDER = Path(str(files("vistok") / "weights"))


def _of_kind(kind: str) -> set[str]:
    suffix = f"_{kind}.safetensors"
    return {place.name.removesuffix(suffix) for place in _FOLDER.iterdir() if place.name.endswith(suffix)}


def shipped_networks(kind: str) -> list[str]:
    """Return the names of the shipped networks of a kind ("tokenizer" or "generator"); a pair has one name for both."""
    return sorted(name.replace("_", "-") for name in _of_kind(kind))


def shipped_network(name: str, kind: str) -> Path | None:
    """Return the file of a shipped network, or None if there is none of this kind with this name.

    Dashes and underscores mean the same, as in names of recipes and runs.
    """
    name = name.replace("_", "-")
    return _FOLDER / f"{name.replace('-', '_')}_{kind}.safetensors" if name in shipped_networks(kind) else None
