"""The sizes of the demo; kept separate so that a finished demo is recognised without importing torch."""

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from vistok.config import fingerprint
from vistok.recipes import find_recipe

ARMS = ("baseline", "crt")
PAIRS = Path(str(files("vistok") / "weights" / "pairs"))


@dataclass(frozen=True)
class DemoSize:
    """What a demo does: on each pair of tokenizers, without and with the regularizer, it trains and scores a generator each.

    `tokenizers`: the recipes of a pair, which is trained with each of the seeds; without them, a pair that comes with vistok
    is taken for each of the seeds. `seeds` of the generators begin at `generator_seed`. `live`: a tokenizer that is trained
    to show that training works.
    """

    seeds: tuple[int, ...]
    generator: str
    samples: int
    scale: float
    tokenizers: tuple[str, str] | None = None
    live: str | None = None
    generator_seed: int = 0
    minutes: str = "a minute"


SIZES = {
    "tiny": DemoSize((0,), "debug_ar", 500, 1.5, ("debug_vq", "debug_crt")),
    "short": DemoSize(
        (0, 1, 2), "fashion_demo_ar", 2_000, 3.0, live="fashion_short_crt", generator_seed=100, minutes="6 minutes"
    ),
    "full": DemoSize(
        (40, 41, 42), "fashion_demo_ar", 5_000, 3.0, ("fashion_demo_vq", "fashion_demo_crt"), generator_seed=140,
        minutes="half an hour",
    ),
}  # fmt: skip


def shipped_tokenizer(arm: str, seed: int) -> Path:
    """Return the file of a tokenizer that comes with vistok for the demo."""
    return PAIRS / f"fashion_{arm}_{seed}.safetensors"


def identity(size: str) -> str:
    """Return a string of everything that decides a demo's result: recipes, size, shipped networks."""
    demo = SIZES[size]
    weights = files("vistok") / "weights"
    shipped = [file for file in weights.iterdir() if file.name.startswith(("fashion_evaluator", "fashion_perceptual"))]
    if demo.tokenizers is None:
        shipped += PAIRS.iterdir()
    contents = sorted((file.name, file.read_bytes()) for file in shipped)
    networks = hashlib.sha256(b"".join(name.encode() + content for name, content in contents)).hexdigest()[:10]
    recipes = (*(demo.tokenizers or ()), demo.generator, *([demo.live] if demo.live else []))
    return "-".join([*(fingerprint(find_recipe(name)) for name in recipes), networks, repr(demo)])


def demo_page(size: str, runs: Path) -> Path:
    """Return the path of the page."""
    return runs / f"demo-{size}" / "index.html"


def finished_answer(size: str, runs: Path) -> str | None:
    """Return the answer of a finished demo, or None if something is left to do."""
    try:
        done = json.loads((runs / f"demo-{size}" / "finished.json").read_text())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(done, dict) or not isinstance(done.get("answer"), str):
        return None
    same = done.get("identity") == identity(size) and demo_page(size, runs).is_file()
    return done["answer"] if same else None
