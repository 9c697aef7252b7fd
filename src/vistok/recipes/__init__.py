"""Recipes: functions that build configs. A recipe is named after its function, and the docstring explains it."""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from vistok.errors import UserError, nearest

MODULES = (
    "debug",
    "fashion",
    "openmoji",
    "images",
    "imagenet",
    "imagenet_generators",
    "imagenet_vectors",
    "lsun",
    "studies",
    "vector_studies",
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


def find_recipe(name: str, kind: str | None = None) -> Any:
    """Return the config that a recipe builds; raises UserError for an unknown name or the wrong kind."""
    recipes = all_recipes()
    name = name.replace("-", "_")  # as runs and shipped pairs spell it
    if name not in recipes:
        raise UserError(
            f"unknown recipe {name!r}.{nearest(name, list(recipes))} Available recipes: {', '.join(sorted(recipes))} "
            "(vistok recipes describes them)"
        )
    config = recipes[name]().replace(name=name.replace("_", "-"))
    config = config.replace(recipe=name) if "recipe" in type(config).model_fields else config
    if kind is not None and config.kind != kind:
        fitting = [other for other, build in recipes.items() if build().kind == kind]
        raise UserError(f"recipe {name!r} is for a {config.kind}, not a {kind}; choose one of: {', '.join(fitting)}")
    return config
