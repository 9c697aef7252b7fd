"""What comes with the package: pairs of tokenizer and generator, which give pictures at once, and tokenizers to begin with."""

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


def shipped_tokenizers() -> list[str]:
    """Return the names of tokenizers without a generator: of pictures of all kinds, for training to begin with."""
    names = (place.name for place in (files("vistok") / "weights").iterdir())
    found = {name.removesuffix("_tokenizer.safetensors") for name in names if name.endswith("_tokenizer.safetensors")}
    return sorted(found - {name.replace("-", "_") for name in shipped_pairs()})


def shipped_tokenizer(name: str) -> Path | None:
    """Return the file of a shipped tokenizer, or None where there is none of this name."""
    known = name in shipped_tokenizers()
    return Path(str(files("vistok") / "weights" / f"{name}_tokenizer.safetensors")) if known else None
