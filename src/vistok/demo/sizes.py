"""The sizes of the demo; kept separate so that a finished demo is recognised without importing torch."""

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from vistok.config import fingerprint
from vistok.recipes import find_recipe

ARMS = ("baseline", "crt")


@dataclass(frozen=True)
class DemoSize:
    """Recipes (tokenizer without and with the regularizer, generator), seeds, and how much is sampled and scored."""

    recipes: tuple[str, str, str]
    seeds: tuple[int, ...]
    num_samples: int
    scales: tuple[float, ...]
    search_samples: int
    # Weights whose samples and reconstructions are scored in full; likelihood and PSNR always cover both.
    weights: tuple[str, ...] = ("ema",)


SIZES = {
    "tiny": DemoSize(("debug_vq", "debug_crt", "debug_ar"), (0,), 500, (1.0, 1.5), 100, ("ema", "raw")),
    "short": DemoSize(
        ("fashion_short_vq", "fashion_short_crt", "fashion_short_ar"), (0,), 10_000, (1.0, 1.5, 2.0, 3.0, 4.0), 1_000
    ),
    "full": DemoSize(
        ("fashion_vq", "fashion_crt", "fashion_ar"),
        (0, 1, 2),
        10_000,
        (1.0, 1.25, 1.5, 2.0, 3.0, 4.0),
        2_000,
        ("ema", "raw"),
    ),
}


def identity(size: str) -> str:
    """Return a string of everything that decides a demo's result: recipes, size, shipped networks."""
    demo = SIZES[size]
    shipped = sorted(
        (file.name, file.read_bytes())
        for file in (files("vistok") / "weights").iterdir()
        if file.name.startswith(("fashion_evaluator", "fashion_perceptual"))
    )
    networks = hashlib.sha256(b"".join(name.encode() + content for name, content in shipped)).hexdigest()[:10]
    return "-".join([*(fingerprint(find_recipe(name)) for name in demo.recipes), networks, repr(demo)])


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
