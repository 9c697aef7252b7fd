"""A config as the command that trains it: the nearest recipe, and what to set."""

import json
from collections.abc import Iterator
from typing import Any

from vistok.config import override, science
from vistok.errors import UserError
from vistok.recipes import find_recipe, recipe_kinds

# Parts of a config that do not change the result, or that a command gives in another way.
_LEFT = ("name", "recipe", "kind", "seed", "data.root", "init_from", "execution.")


def train_words(config: Any) -> list[str] | None:
    """Return the words of a command that trains a config, from the recipe that needs the fewest changes; None if none can.

    The seed is the recipe's. The images' folder is given only where it is not the recipe's.
    """
    found = [words for name, kind in recipe_kinds().items() if kind == config.kind and (words := _from(name, config))]
    return min(found, key=lambda words: (len(words), len(" ".join(words))), default=None)


def _from(name: str, config: Any) -> list[str] | None:
    recipe = find_recipe(name, config.kind)
    mine, theirs = (json.loads(each.to_json()) for each in (config, recipe))
    settings = [f"{path}={_text(value)}" for path, value in _changes(mine, theirs) if not path.startswith(_LEFT)]
    if not _same(recipe, settings, config):
        return None
    root = getattr(config, "data", None) and config.data.root
    data = ["--data", root] if root and root != recipe.data.root else []
    return ["vistok", "train", config.kind, name, *data, *(word for setting in settings for word in ("--set", setting))]


def _changes(mine: dict[str, Any], theirs: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of what differs; a part that is new, or of another kind, is given whole, one that is gone as None."""
    for name, value in mine.items():
        other, path = theirs.get(name), f"{above}{name}"
        if value == other:
            continue
        if _are_kinds(value) and _are_kinds(other) and (value or other):
            of_mine, of_theirs = {part["kind"]: part for part in value}, {part["kind"]: part for part in other or ()}
            yield from ((f"{path}.{kind}", None) for kind in of_theirs if kind not in of_mine)
            yield from _changes(of_mine, of_theirs, f"{path}.")
        elif isinstance(value, dict) and isinstance(other, dict) and value.get("kind") == other.get("kind"):
            yield from _changes(value, other, f"{path}.")
        else:
            yield path, value


def _are_kinds(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(part, dict) and "kind" in part for part in value)


def _text(value: Any) -> str:
    """Return a value as --set reads it, without quotes where plain text will do."""
    text = json.dumps(value)
    if not isinstance(value, str):
        return text
    try:
        json.loads(value)
    except ValueError:
        return value
    return text


def _same(recipe: Any, settings: list[str], config: Any) -> bool:
    try:
        return science(override(recipe, settings).replace(seed=config.seed)) == science(config)
    except UserError:
        return False
