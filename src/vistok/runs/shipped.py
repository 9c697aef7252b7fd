"""What ships with the package: tokenizer-generator pairs, which draw pictures at once, and networks to start from."""

from importlib.resources import files
from pathlib import Path

from vistok.errors import UserError
from vistok.generator.interface import Generator
from vistok.runs.load import load_generator

_FOLDER = Path(str(files("vistok") / "weights"))


def _of_kind(kind: str) -> set[str]:
    suffix = f"_{kind}.safetensors"
    return {place.name.removesuffix(suffix) for place in _FOLDER.iterdir() if place.name.endswith(suffix)}


def shipped_pairs() -> list[str]:
    """Return the names of the shipped pairs."""
    return sorted(name.replace("_", "-") for name in _of_kind("generator"))


def shipped_generator(name: str) -> Generator:
    """Return a shipped generator; `load_tokenizer_of` finds its tokenizer. Raises UserError for an unknown name.

    Its `info` says how it was made (`made_by`) and what it scores (`scores`).
    """
    if name not in shipped_pairs():
        raise UserError(f"no shipped pair {name!r}; available: {', '.join(shipped_pairs()) or 'none'}")
    generator = load_generator(_FOLDER / f"{name.replace('-', '_')}_generator.safetensors")
    tokenizer = generator.info.tokenizer
    assert tokenizer is not None
    generator.info = generator.info.replace(tokenizer=tokenizer.replace(path=str(_FOLDER / tokenizer.path)))
    return generator


def shipped_networks(kind: str) -> list[str]:
    """Return the names of the shipped networks of a kind ("tokenizer" or "generator"), from which training can start."""
    return sorted(name.replace("_", "-") for name in _of_kind(kind))


def shipped_network(name: str, kind: str) -> Path | None:
    """Return the file of a shipped network, or None if there is none of this kind with this name."""
    return _FOLDER / f"{name.replace('-', '_')}_{kind}.safetensors" if name in shipped_networks(kind) else None
