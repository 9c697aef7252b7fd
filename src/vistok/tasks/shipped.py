"""Pairs of tokenizer and generator that come with the package: pictures in seconds, without training."""

from importlib.resources import files
from pathlib import Path

from vistok.errors import UserError
from vistok.generator.autoregressive import AutoregressiveGenerator
from vistok.tasks.load import load_generator


def shipped_pairs() -> list[str]:
    """Return the names of the pairs."""
    suffix = "_generator.safetensors"
    found = (place.name for place in (files("vistok") / "weights").iterdir())
    return sorted(name.removesuffix(suffix).replace("_", "-") for name in found if name.endswith(suffix))


def shipped_generator(name: str) -> AutoregressiveGenerator:
    """Return a shipped generator; `load_tokenizer_of` finds its tokenizer. Raises UserError for an unknown name.

    Its `info` says how it was made (`made_by`) and what it scores (`scores`).
    """
    if name not in shipped_pairs():
        raise UserError(f"no shipped pair {name!r}; there are: {', '.join(shipped_pairs()) or 'none'}")
    folder = Path(str(files("vistok") / "weights"))
    generator = load_generator(folder / f"{name.replace('-', '_')}_generator.safetensors")
    generator.info["tokenizer"]["path"] = str(folder / generator.info["tokenizer"]["path"])
    return generator
