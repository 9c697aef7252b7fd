"""What a person wants drawn, and the command and the Python that draw the same pictures."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vistok.generator.families import FAMILIES

# Fields of a family's sampling that the page offers, with what leaves them alone; the others keep their defaults.
OFFERED: dict[str, Any] = {"temperature": 1.0, "top_k": None, "top_p": None, "steps": None, "solver": None}


@dataclass(frozen=True)
class Wish:
    """A generator as it is named, chosen classes by number (none: all in turn), how many images, and how to draw them.

    `options` are fields of the sampling; what the generator's family does not have is left out.
    """

    run: str
    classes: tuple[int, ...] = ()
    count: int = 20
    seed: int = 0
    guidance: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)

    def sampling(self, kind: str) -> dict[str, Any]:
        """Return the values of a family's sampling config that the wish sets."""
        known = FAMILIES[kind].sampling.model_fields
        chosen = {name: value for name, value in self.options.items() if name in known and value != OFFERED[name]}
        return {"kind": kind, "guidance_scale": self.guidance, "seed": self.seed, **chosen}


def fields_of(kind: str) -> list[str]:
    """Return which of the offered fields a family has."""
    return [name for name in OFFERED if name in FAMILIES[kind].sampling.model_fields]


def class_text(number: int, names: Sequence[str]) -> str:
    """Return a class as a command names it: by its name, or by its number where several names are alike."""
    alike = [name for name in names if name.casefold().strip() == names[number].casefold().strip()]
    return names[number] if len(alike) == 1 and names[number].strip() else str(number)


def command_of(wish: Wish, kind: str, names: Sequence[str], anyway: bool = False) -> str:
    """Return the command that draws the same pictures, for a shell; `anyway`: its run ended dead."""
    words = ["vistok", "sample", wish.run, "--count", str(wish.count)]
    words += [word for number in wish.classes for word in ("--class", class_text(number, names))]
    sampling = wish.sampling(kind)
    words += ["--guidance", f"{wish.guidance:g}"]
    for name in OFFERED:
        if name in sampling:
            words += [f"--{name.replace('_', '-')}", f"{sampling[name]}"]
    words += ["--seed", str(wish.seed), "--out", "samples.png", *(["--anyway"] if anyway else [])]
    return shlex.join(words)


def python_of(wish: Wish, kind: str, names: Sequence[str], path: Path) -> str:
    """Return a program that draws the same pictures; `path`: the run, or the file, that the wish names."""
    return _of_run(wish, kind, names, path) if path.is_dir() else _of_file(wish, kind, len(names), path)


def _of_run(wish: Wish, kind: str, names: Sequence[str], path: Path) -> str:
    sampling = wish.sampling(kind)
    fields = "".join(f", {name}={sampling[name]!r}" for name in OFFERED if name in sampling)
    labels = [class_text(number, names) for number in wish.classes] or None
    return "\n".join((
        "import vistok",
        "",
        f"run = vistok.run({str(path)!r})",
        f"images = run.sample({labels!r}, count={wish.count}, guidance={wish.guidance:g}, seed={wish.seed}{fields})",
        'images.save("samples.png")  # images.pixels: uint8, (count, channels, height, width)',
    ))  # fmt: skip


def _of_file(wish: Wish, kind: str, num_classes: int, path: Path) -> str:
    classes = list(wish.classes) or f"range({num_classes})"
    return "\n".join((
        "import torch",
        "from vistok import load_generator",
        "from vistok.runs.drawing import usual_sampling",
        "from vistok.runs.load import load_tokenizer_of",
        "",
        f"generator = load_generator({str(path)!r})",
        "tokenizer = load_tokenizer_of(generator)",
        f"classes = {classes}",
        f"labels = torch.tensor([classes[i % len(classes)] for i in range({wish.count})])",
        f"sampling = usual_sampling(generator, {wish.sampling(kind)!r})",
        "# Floats near [-1, 1], (count, channels, height, width):",
        "images = tokenizer.decode(generator.sample(labels, sampling=sampling))",
    ))  # fmt: skip
