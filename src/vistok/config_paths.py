"""The paths of a config's fields, as `--set` takes them: which there are, which one was meant, and what a place is called."""

import types
from difflib import SequenceMatcher, get_close_matches
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

# What people write for the last part of a path -> the field that they mean.
SYNONYMS = {
    **dict.fromkeys(("learning_rate", "rate"), "lr"),
    **dict.fromkeys(("steps", "num_steps", "max_steps", "iterations", "epochs", "num_epochs"), "length"),
    **dict.fromkeys(("workers", "j"), "num_workers"),
    **dict.fromkeys(("gpu", "cuda"), "device"),
    "wd": "weight_decay",
    "bs": "batch_size",
    "codes": "codebook_size",
}


def path_in(data: Any, location: tuple[int | str, ...]) -> str:
    """Return a place as people write it: `regularizers.causal.weight`, not `regularizers.0.weight`."""
    parts = []
    for part in location:
        try:
            data = data[part]
        except (LookupError, TypeError):  # a field that was left out
            data = None
        of_list = isinstance(part, int) and isinstance(data, dict) and "kind" in data
        parts.append(str(data["kind"] if of_list else part))
    return ".".join(parts)


def matching_paths(cls: type[BaseModel], text: str) -> list[str]:
    """Return the paths of a config whose last part is that of `text`, or what is meant by it; else those spelled alike."""
    if exact := same_last(cls, text):
        return exact
    paths = field_paths(cls)
    near = get_close_matches(_last(text), dict.fromkeys(map(_last, paths)), n=2, cutoff=0.75)
    return [path for name in near for path in paths if _last(path) == name]


def same_last(cls: type[BaseModel], text: str) -> list[str]:
    """Return the paths whose last part is that of `text`, or what is meant by it; those most like `text` first."""
    wanted = SYNONYMS.get(_last(text), _last(text))
    found = [path for path in field_paths(cls) if _last(path) == wanted]
    return sorted(found, key=lambda path: (-SequenceMatcher(None, path, text).ratio(), path.count(".")))


def _last(path: str) -> str:
    return path.rpartition(".")[2]


def field_paths(cls: type[BaseModel]) -> list[str]:
    """Return the paths of all fields of a config and of every config that may stand in it; of lists, those of item 0.

    What is inside a config that is copied from another network is left out.
    """
    paths: dict[str, None] = {}
    for name, field in cls.model_fields.items():
        paths[name] = None
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("copied"):
            continue
        for choice in choices_of(cls, name):
            if choice.__pydantic_decorators__.model_serializers:  # written as text: it has no fields
                continue
            below = name
            if get_origin(field.annotation) is tuple:
                below += f".{choice.model_fields['kind'].default}" if "kind" in choice.model_fields else ".0"
            paths |= dict.fromkeys(f"{below}.{path}" for path in field_paths(choice))
    return list(paths)


def choices_of(cls: type[BaseModel], name: str) -> list[Any]:
    """Return the config classes that a field accepts."""
    field = cls.model_fields.get(name)
    if field is None:
        return []
    kinds = [part for part in field.metadata if hasattr(part, "classes")]
    return kinds[0].classes() if kinds else config_choices(field.annotation)


def config_choices(annotation: Any) -> list[Any]:
    """Return the config classes that an annotation such as `VQConfig | FSQConfig | None` allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    for part in get_args(annotation) if get_origin(annotation) is Annotated else ():
        if hasattr(part, "classes"):
            return part.classes()
    if get_origin(annotation) in (Union, types.UnionType, Annotated, tuple):
        return [choice for part in get_args(annotation) for choice in config_choices(part)]
    return []
