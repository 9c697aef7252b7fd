"""Recipes: functions that build configs. A recipe is named after its function, and the docstring explains it."""

import re
from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any

from vistok.errors import UserError

MODULES = (
    "debug",
    "fashion",
    "openmoji",
    "images",
    "images_tokens",
    "imagenet",
    "imagenet_generators",
    "imagenet_vectors",
    "imagenet_lines",
    "imagenet_clusters",
    "lsun",
    "shortcuts",
    "imagenet_shortcuts",
    "studies",
    "vector_studies",
    "token_studies",
)


def all_recipes() -> dict[str, Callable[[], Any]]:
    """Return all recipes by name."""
    recipes: dict[str, Callable[[], Any]] = {}
    for module_name in MODULES:
        module = import_module(f"vistok.recipes.{module_name}")
        for name, value in vars(module).items():
            if callable(value) and getattr(value, "__module__", "") == module.__name__ and not name.startswith("_"):
                recipes[name] = value
    return recipes


@cache
def recipe_kinds() -> dict[str, str]:
    """Return the kind of every recipe by name, from the text of the recipes: what completes names cannot wait for configs."""
    kinds = {}
    for module_name in MODULES:
        text = (files("vistok") / "recipes" / f"{module_name}.py").read_text(encoding="utf-8")
        for name, built in re.findall(r"^def ([a-z]\w*)\(\) -> (\w+?)(?:Run|Config):", text, re.MULTILINE):
            kinds[name] = built.lower()
    return kinds


def find_recipe(name: str, kind: str | None = None) -> Any:
    """Return the config that a recipe builds; raises UserError for an unknown name or the wrong kind."""
    kinds = recipe_kinds()
    name = name.replace("-", "_")  # as runs and shipped pairs spell it
    if name not in kinds:
        raise UserError(f"unknown recipe {name!r}.{_near(name, kind)} vistok recipes lists all {len(kinds)}")
    if kind is not None and kinds[name] != kind:
        raise UserError(
            f"recipe {name!r} is for a {kinds[name]}, not a {kind} ({command_of(name, kinds[name])}).{_near(name, kind)} vistok recipes lists all "
            f"{len(kinds)}"
        )
    config = all_recipes()[name]().replace(name=name.replace("_", "-"))
    return config.replace(recipe=name) if "recipe" in type(config).model_fields else config


def command_of(name: str, kind: str) -> str:
    """Return the command that takes a recipe of this kind, as in "vistok shorten fashion_guided --teacher RUN"."""
    words = {
        "study": "study run {}",
        "shortcut": "shorten {} --teacher RUN",
        "generator": "train generator {} --tokenizer RUN",
    }
    data = " --data FOLDER" if name.startswith("images") and kind not in ("generator", "shortcut") else ""
    return f"vistok {words.get(kind, f'train {kind} {{}}').format(name)}{data}"


def _near(name: str, kind: str | None) -> str:
    """Return " Did you mean 'x', 'y' or 'z'?" with the recipes of a kind whose names are nearest; empty if none is near."""
    fitting = [other for other, of in recipe_kinds().items() if kind in (None, of)]
    same_start = [other for other in fitting if other.partition("_")[0] == name.partition("_")[0]]
    near = dict.fromkeys([*get_close_matches(name.lower().replace("-", "_"), fitting, n=3), *same_start])
    *others, last = [repr(other) for other in near][:4] or [""]
    if not last:
        return ""
    return f" Did you mean {', '.join(others)} or {last}?" if others else f" Did you mean {last}?"
