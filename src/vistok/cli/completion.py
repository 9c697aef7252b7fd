"""What Tab offers: recipes, runs, shipped networks. Nothing heavy is imported, as a shell waits for the answer."""

import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from vistok.recipes import recipe_kinds

Offer = Callable[[Any, list[str], str], list[str]]
KINDS = ("tokenizer", "generator", "classifier")


def recipes(ctx: Any, args: list[str], incomplete: str) -> list[str]:
    """Return the names of recipes: of one kind for vistok train and vistok study, else of all."""
    group = ctx.parent.info_name if ctx.parent else ""
    wanted = "study" if group == "study" else ctx.info_name
    return sorted(name for name, kind in recipe_kinds().items() if kind == wanted or wanted not in (*KINDS, "study"))


def runs(kind: str | None = None) -> Offer:
    """Return what offers the runs of a kind; without one, of the kind that the command is about, else all of them."""

    def offer(ctx: Any, args: list[str], incomplete: str) -> list[str]:
        wanted = kind or ctx.info_name
        folder = Path(incomplete.rpartition("/")[0] or "/") if "/" in incomplete else Path("runs")
        found = [place for place, of in _runs_in(folder) if wanted not in KINDS or of == wanted]
        # A name alone will do, but a path says where it is.
        return [place.name for place in found if incomplete and place.name.startswith(incomplete)] or list(
            map(str, found)
        )

    return offer


def _runs_in(folder: Path) -> list[tuple[Path, str]]:
    """Return the runs directly in a folder, newest first, with their kinds."""
    try:
        files = sorted(folder.glob("*/config.json"), key=lambda file: -file.stat().st_mtime)
        return [(file.parent, str(json.loads(file.read_bytes()).get("kind"))) for file in files]
    except (OSError, ValueError, AttributeError):  # Tab stays silent about what the command will name
        return []


def shipped(kind: str) -> Offer:
    """Return what offers the shipped networks of a kind."""

    def offer(ctx: Any, args: list[str], incomplete: str) -> list[str]:
        suffix = f"_{kind}.safetensors"
        names = (place.name for place in (files("vistok") / "weights").iterdir())
        return sorted(name.removesuffix(suffix).replace("_", "-") for name in names if name.endswith(suffix))

    return offer


def starts(ctx: Any, args: list[str], incomplete: str) -> list[str]:
    """Return what training can start from: runs and shipped networks of the kind that is trained."""
    return runs()(ctx, args, incomplete) + shipped(ctx.info_name)(ctx, args, incomplete)


# By the name of a parameter.
COMPLETED: dict[str, Offer] = {
    **dict.fromkeys(("recipe", "study", "names"), recipes),
    **dict.fromkeys(("run", "compared", "network"), runs()),
    **dict.fromkeys(("generator", "draft"), runs("generator")),
    "tokenizer": runs("tokenizer"),
    "evaluator": runs("classifier"),
    "init_from": starts,
    "shipped": shipped("generator"),
}
