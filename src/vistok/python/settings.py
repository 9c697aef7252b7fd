"""A recipe with changed values, given as Python values."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vistok.config import override
from vistok.errors import UserError
from vistok.recipes import find_recipe

Settings = Mapping[str, Any] | Sequence[str] | None


def assignments(settings: Settings) -> list[str]:
    """Return settings as the command line's "path=value": `{"length": "300 steps"}`, or a list of such texts.

    Values of a dictionary are numbers, texts, None, and lists or dictionaries of these; NumPy's numbers and paths are taken,
    too. Raises UserError for others.
    """
    if settings is None:
        return []
    if isinstance(settings, Mapping):
        return [f"{path}={_as_json(path, value)}" for path, value in settings.items()]
    texts = [settings] if isinstance(settings, str) else list(settings)
    if wrong := [text for text in texts if not isinstance(text, str)]:
        raise UserError(f'set: {wrong[0]!r:.60} is not a text; give {{"seed": 1}} or ["seed=1"]')
    return texts


def recipe_config(
    recipe: str,
    settings: Settings,
    initial: Callable[[str], str | None],
    proxy: str | None = None,
    codes: str | None = None,
) -> Any:
    """Return the config of a recipe with changed values.

    `initial`: which run or file training starts from, of the recipe's kind; its network is taken. `proxy`: the grid tokenizer whose
    tokens are learned; `codes`: the one whose tokens a renderer draws. Raises UserError for unknown recipes, fields and values.
    """
    config = find_recipe(recipe)
    init_from = initial(config.kind)
    if init_from is not None:
        from vistok.runs.initial import with_network_of

        config = with_network_of(config, init_from)
    for given, what, example in (
        (proxy, "a proxy is", "fashion_proxy_line"),
        (codes, "codes are", "images64_renderer"),
    ):
        if given is not None and config.kind != "tokenizer":
            raise UserError(f"recipe {recipe!r} is for a {config.kind}; {what} for tokenizers, such as {example}")
    if proxy is not None:
        from vistok.runs.proxy import with_proxy_of

        config = with_proxy_of(config, proxy)
    if codes is not None:
        from vistok.runs.sources import with_codes_of

        config = with_codes_of(config, codes)
    return override(config, assignments(settings))


def _as_json(path: str, value: Any) -> str:
    def plain(other: Any) -> Any:
        if hasattr(other, "item"):  # NumPy's numbers
            return other.item()
        if isinstance(other, Path):
            return str(other)
        raise TypeError

    try:
        return json.dumps(value, default=plain)
    except (TypeError, ValueError):
        raise UserError(
            f"set {path!r}: type {type(value).__name__} cannot be written into a config; give a number, a text, None, or a list or "
            "dictionary of these"
        ) from None
