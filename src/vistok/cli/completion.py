"""What Tab offers: recipes, runs, shipped networks. Nothing heavy is imported, as a shell waits for the answer."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vistok.recipes import recipe_kinds

Offer = Callable[[Any, list[str], str], list[str]]
KINDS = ("tokenizer", "generator", "classifier")


def recipes(ctx: Any, args: list[str], incomplete: str) -> list[str]:
    """Return the names of recipes: of one kind for vistok train, vistok study and vistok advise, else of all."""
    group = ctx.parent.info_name if ctx.parent else ""
    wanted = "study" if group == "study" or ctx.info_name == "advise" else ctx.info_name
    wanted = "shortcut" if wanted == "shorten" else wanted
    return sorted(
        name for name, kind in recipe_kinds().items() if kind == wanted or wanted not in (*KINDS, "shortcut", "study")
    )


def runs(kind: str | None = None) -> Offer:
    """Return what offers the runs of a kind; without one, of the kind that the command is about, else all of them."""

    def offer(ctx: Any, args: list[str], incomplete: str) -> list[str]:
        from vistok.runs.find import run_folders

        wanted = kind or ctx.info_name
        folder = Path(incomplete.rpartition("/")[0] or "/") if "/" in incomplete else Path("runs")
        try:
            found = run_folders(folder, wanted if wanted in KINDS else None)
        except OSError:
            found = []
        # A name alone will do, but a path says where it is.
        return [place.name for place in found if incomplete and place.name.startswith(incomplete)] or list(
            map(str, found)
        )

    return offer


def shipped(kind: str) -> Offer:
    """Return what offers the shipped networks of a kind."""

    def offer(ctx: Any, args: list[str], incomplete: str) -> list[str]:
        from vistok.runs.shipped import shipped_networks

        return shipped_networks(kind)

    return offer


def networks(kind: str | None = None) -> Offer:
    """Return what offers runs and shipped networks of a kind; without one, of the kind that the command trains."""

    def offer(ctx: Any, args: list[str], incomplete: str) -> list[str]:
        wanted = kind or ("generator" if ctx.info_name == "shorten" else ctx.info_name)
        return runs(wanted)(ctx, args, incomplete) + shipped(wanted)(ctx, args, incomplete)

    return offer


# By the name of a parameter.
COMPLETED: dict[str, Offer] = {
    **dict.fromkeys(("recipe", "study", "names"), recipes),
    **dict.fromkeys(("run", "compared", "network"), runs()),
    "generator": networks("generator"),
    "teacher": networks("generator"),
    "draft": runs("generator"),
    "tokenizer": networks("tokenizer"),
    "evaluator": runs("classifier"),
    "init_from": networks(),
    "proxy": networks("tokenizer"),
    "shipped": shipped("generator"),
}
