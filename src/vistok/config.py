"""Frozen typed configs: conversion to and from JSON, `a.b=c` overrides, and a fingerprint of the science.

A config has two halves. *Science* changes the result and is fingerprinted. *Execution* (workers, micro-batches,
logging) does not: its fields are declared with `execution()` and left out of the fingerprint. Fields added in a newer
version are declared with `later()`, so that existing runs keep their names. Where a field accepts one of several
configs, `kind` selects which (`Kinds`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic_core import core_schema

from vistok.config_paths import choices_of, matching_paths, path_in, same_last
from vistok.errors import UserError, in_utf8, nearest, printable, reason

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)


class ConfigError(UserError, ValueError):
    """A config's values are wrong or inconsistent. Also a ValueError, so that an enclosing config reports where."""


class _Explained(ModelMetaclass):
    """Makes building a config from values raise the same errors as reading one from a file."""

    def __call__(cls, *args: Any, **values: Any) -> Any:
        try:
            return super().__call__(*args, **values)
        except ValidationError as error:
            raise ConfigError(_explain(error, cls)) from None


class Config(BaseModel, metaclass=_Explained):
    """Base class of all configs: frozen, strict about types, with no unknown fields.

    Raises ConfigError naming the field, what was found and what is allowed.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", validate_default=True, allow_inf_nan=False)
    # Field paths of earlier versions -> where they are now, so that files and commands with the old ones still work.
    former_paths: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def as_named(cls, kept: dict[str, Any]) -> dict[str, Any]:
        """Return the fingerprinted fields of this config; a class whose fields have moved puts them back first."""
        return kept

    def to_json(self) -> str:
        """Return this config as indented JSON; `from_json` is the exact inverse."""
        return json.dumps(self.model_dump(mode="json"), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a config; raises ConfigError, as building one does."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            invalid = any(item["type"] == "json_invalid" for item in error.errors())
            raise ConfigError(_explain(error, cls, None if invalid else json.loads(text))) from None

    def replace(self, **changes: Any) -> Self:
        """Return a validated copy with some fields changed."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**(fields | changes))


def _file_name(text: str) -> str:
    if not text or not (text[0].isalnum() or text[0] == "_") or not text.isprintable() or set(text) & set("/\\"):
        raise ValueError(
            f"a name becomes a file name: it must begin with a letter or digit and contain no '/', found {printable(text)!r}"
        )
    if len(text.encode()) > 200:
        raise ValueError(f"a name becomes a file name: at most 200 bytes, found {len(text.encode())}")
    return text


FileName = Annotated[str, AfterValidator(_file_name)]


def with_tuples(found: Any, info: ValidationInfo) -> Any:
    """Return JSON input with its lists as tuples: pydantic treats a `before` validator's result as Python values."""
    if info.mode != "json":
        return found
    if isinstance(found, dict):
        return {name: with_tuples(value, info) for name, value in found.items()}
    return tuple(with_tuples(value, info) for value in found) if isinstance(found, list) else found


@dataclass(frozen=True)
class Part:
    """A table entry: a config class and what is built from it, as "module:name" to avoid heavy imports."""

    config: type[Config]
    made_by: str

    def load(self) -> Any:
        """Return the class or function that is called with the config."""
        return load_named(self.made_by)


def load_named(place: str) -> Any:
    """Import "module:name" and return what it names."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)


def make(table: Mapping[str, Part], config: Any, *arguments: Any) -> Any:
    """Build the part that a table lists for this config's kind."""
    return table[config.kind].load()(config, *arguments)


class Kinds:
    """The configs that a field accepts, told apart by `kind`: annotate the field as `Annotated[Base, kinds]`.

    The table is consulted each time a config is read, so parts added to it are recognised from then on. Files from
    versions without `kind` mean `default`.
    """

    def __init__(self, base: type[Config], table: Mapping[str, Part], default: str = "") -> None:
        self.base, self.table, self.default = base, table, default

    def classes(self) -> list[type[Config]]:
        """Return the classes, the default one first."""
        return [self.table[kind].config for kind in sorted(self.table, key=lambda kind: kind != self.default)]

    def read(self, value: Any, info: ValidationInfo) -> Any:
        """Return a config of one of the kinds, given the config itself or its fields."""
        if isinstance(value, self.base):
            return value
        if not isinstance(value, dict):
            raise ValueError(f"expected the fields of a config, found {type(value).__name__}")
        kind = value.get("kind", self.default)
        if not isinstance(kind, str) or kind not in self.table:
            raise ValueError(f"kind {printable(str(kind))[:60]!r} is not one of {', '.join(self.table)}")
        validator = self.table[kind].config.__pydantic_validator__
        if info.mode == "json":  # in which tuples are lists
            return validator.validate_json(json.dumps(value))
        return validator.validate_python(value)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.with_info_plain_validator_function(
            self.read,
            # By the value's class, as the base class knows none of its fields.
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value, info: value.model_dump(mode=info.mode), info_arg=True
            ),
        )


def execution(default: Any, description: str = "") -> Any:
    """Declare a field that does not change the result and is therefore not fingerprinted."""
    return Field(default=default, description=description, json_schema_extra={"execution": True})


def later(default: Any, description: str = "") -> Any:
    """Declare a field that did not exist in earlier versions: at its default it is not fingerprinted.

    That way a new version of vistok finds the runs, caches and records of older ones.
    """
    return Field(default=default, description=description, json_schema_extra={"later": True})


def copied(default: Any, description: str = "") -> Any:
    """Declare a field that is filled with another network's config: nobody who types a path means what is inside."""
    return Field(default=default, description=description, json_schema_extra={"copied": True})


def science(config: Config) -> dict[str, Any]:
    """Return the half of a config that determines the result, as plain JSON values."""
    dumped = config.model_dump(mode="json")
    kept: dict[str, Any] = {}
    for name, field in type(config).model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("execution"):
            continue
        value = getattr(config, name)
        if isinstance(extra, dict) and extra.get("later") and value == field.default:
            continue
        kept[name] = _science_of(value, dumped[name])
    return config.as_named(kept)


def _science_of(value: Any, dumped: Any) -> Any:
    # A Duration is a Config too, but is dumped as text.
    if isinstance(value, Config) and isinstance(dumped, dict):
        return science(value)
    if isinstance(value, tuple) and any(isinstance(item, Config) for item in value):
        return [_science_of(item, other) for item, other in zip(value, dumped, strict=True)]
    return dumped


def fingerprint(config: Config, **inputs: str) -> str:
    """Return ten hex digits that identify a config's science and the digests of its inputs."""
    payload = json.dumps({"config": science(config), "inputs": inputs}, sort_keys=True)
    return hashlib.sha256(payload.encode()).hexdigest()[:10]


C = TypeVar("C", bound="Config")


def override(config: C, assignments: list[str]) -> C:
    """Return `config` with `path.to.field=value` assignments applied in order.

    Values are JSON, or plain text if they do not parse as JSON. Raises UserError for an unknown path (naming the
    nearest one), a wrong type or an impossible combination.
    """
    data = config.model_dump(mode="json")
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise UserError(f"--set {assignment}: expected path=value, as in --set seed=1")
        path = path.strip()
        try:
            _assign(type(config), data, path.split("."), in_utf8(_parse(text)), path)
        except _NoField as error:
            raise UserError(_without(type(config), path, error)) from None
    try:
        return type(config).from_json(json.dumps(data))
    except ConfigError as error:
        paths = [assignment.partition("=")[0].strip() for assignment in assignments]
        moved = [f"{path} is {now}" for path in paths if (now := _present(type(config), path)) != path]
        raise ConfigError(f"{error} ({'; '.join(moved)})" if moved else str(error)) from None


class _NoField(Exception):
    """A path names a field that is not there. `left`: the parts of the path from it on; `allowed`: the fields there are."""

    def __init__(self, left: list[str], allowed: list[str]) -> None:
        super().__init__(left[0])
        self.left, self.allowed = left, allowed


def _without(cls: type[Config], path: str, missing: _NoField) -> str:
    """Return a sentence on a path that a config does not have: what was probably meant, or else what there is."""
    name, parts = missing.left[0], path.split(".")
    meant = []
    if near := get_close_matches(name, missing.allowed, n=1):
        parts[-len(missing.left)] = near[0]
        meant = [".".join(parts)]
    here = path.rpartition(".")[0]
    if len(missing.left) == 1 and (deeper := [other for other in same_last(cls, path) if other.startswith(here)]):
        meant = deeper
    # A part of another kind may have the very field.
    meant = [other for other in meant or matching_paths(cls, path) if other != path]
    if not meant:
        return f"config has no field {path!r}: {name!r} is not one of {', '.join(missing.allowed)}"
    return f"config has no field {path!r}. Did you mean {' or '.join(map(repr, meant[:3]))}?"


def _present(cls: type[Config], path: str) -> str:
    """Translate a field path of an earlier version to the current one."""
    for former, now in cls.former_paths.items():
        if path == former or path.startswith(former + "."):
            return now + path.removeprefix(former)
    return path


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return text


def _assign(cls: type[Config], data: dict[str, Any], parts: list[str], value: Any, path: str) -> None:
    name, *rest = _present(cls, ".".join(parts)).split(".")
    allowed = list(cls.model_fields) if not data else list(data)
    if name not in allowed:
        raise _NoField([name, *rest], allowed)
    if not rest:
        data[name] = value
        return
    if isinstance(data[name], list):
        if _has_kinds(cls, name) and rest[0] not in map(str, range(len(data[name]))):
            data[name] = _assign_kind(cls, name, data[name], rest, value, path)
        else:
            _assign_item(cls, name, data[name], rest, value, path)
        return
    if data[name] is None:
        # A part that is switched off has no fields yet; start from its defaults.
        data[name] = _defaults(cls, name, path)
    if rest == ["kind"] and isinstance(data[name], dict):
        data[name] = _of_kind(choices_of(cls, name), data[name], value)
        return
    if not isinstance(data[name], dict):
        raise UserError(f"config field {path!r}: {name!r} is a value ({data[name]!r}) and has no fields")
    _assign(_class_of(cls, name, data[name]), data[name], rest, value, path)


def _of_kind(choices: list[Any], part: dict[str, Any], kind: Any) -> dict[str, Any]:
    """Return a part as one of another kind: the values that both have stay, all others are the new kind's defaults."""
    known = {choice.model_fields["kind"].default: choice for choice in choices if "kind" in choice.model_fields}
    if kind not in list(known):
        return {**part, "kind": kind}
    fields, former = known[kind].model_fields, known[part["kind"]].model_fields
    # Fields of one name may hold different configs, such as the encoders of two networks.
    shared = [name for name in part if name in fields and fields[name].annotation == former[name].annotation]
    return known[kind]().model_dump(mode="json") | {name: part[name] for name in shared} | {"kind": kind}


def _has_kinds(cls: type[Config], name: str) -> bool:
    return all("kind" in choice.model_fields for choice in choices_of(cls, name) or [Config])


def _assign_item(cls: type[Config], name: str, items: list[Any], parts: list[str], value: Any, path: str) -> None:
    """Change one item of a list, given by its number from 0 or by its name; the number after the last adds one."""
    which, rest = parts[0], parts[1:]
    names = [item.get("name") if isinstance(item, dict) else None for item in items]
    number = int(which) if which.isdecimal() else names.index(which) if which in names else None
    if number is None or number > len(items) or (number == len(items) and rest):
        known = [item for item in names if item]
        raise UserError(
            f"config field {path!r}: {name!r} has no item {which!r}; it has {len(items)}, counted from 0"
            + (f" or named {', '.join(known)}" if known else "")
            + f", and {'.'.join([*path.split('.')[: -len(parts)], str(len(items))])} adds one"
        )
    if number == len(items):
        items.append(value)
    elif not rest:
        items[number] = value
    elif not isinstance(items[number], dict):
        raise UserError(
            f"config field {path!r}: item {which} of {name!r} is a value ({items[number]!r}) and has no fields"
        )
    else:
        _assign(_class_of(cls, name, items[number]), items[number], rest, value, path)


def _assign_kind(
    cls: type[Config], name: str, members: list[Any], parts: list[str], value: Any, path: str
) -> list[Any]:
    """Return a list of configs of different kinds with one changed: added if absent, removed if set to null."""
    kind, rest = parts[0], parts[1:]
    choices = {str(choice.model_fields["kind"].default): choice for choice in choices_of(cls, name)}
    if kind not in choices:
        raise UserError(f"config field {path!r}: {kind!r} is not one of {', '.join(choices) or 'its kinds'}")
    others = [member for member in members if member["kind"] != kind]
    if not rest:
        if value is not None and not isinstance(value, dict):
            raise UserError(
                f"config field {path!r}: expected the fields of a config, or null for none, found {value!r:.60}"
            )
        return others if value is None else [*others, {"kind": kind, **value}]
    part = next((member for member in members if member["kind"] == kind), None)
    part = part if part is not None else choices[kind]().model_dump(mode="json")
    _assign(choices[kind], part, rest, value, path)
    return [part if member["kind"] == kind else member for member in members] if part in members else [*others, part]


def _class_of(cls: type[Config], name: str, data: dict[str, Any]) -> type[Config]:
    """Return the class of a nested config: the one with exactly these fields."""
    return next((choice for choice in choices_of(cls, name) if set(choice.model_fields) == set(data)), Config)


def _defaults(cls: type[Config], name: str, path: str) -> dict[str, Any]:
    for choice in choices_of(cls, name):
        try:
            return choice().model_dump(mode="json")
        except ConfigError:
            continue
    raise UserError(f"config field {path!r}: {name!r} is off (null); set it to a whole JSON object first")


def _explain(error: ValidationError, cls: Any, data: Any = None) -> str:
    """Return what is wrong, a line for each field; `data`: what was read, by which parts of lists are named by their kind."""
    lines, errors = [], error.errors()
    for item in errors:
        place = item["loc"]
        if any(other["loc"][: len(place)] == place != other["loc"] for other in errors):  # only follows from that one
            continue
        path = path_in(data, item["loc"])
        message = item["msg"].removeprefix("Value error, ").rstrip(".")
        if item["type"] not in ("missing", "value_error", "extra_forbidden"):
            message += f" (found {reason(ValueError(repr(item['input'])))})"
        message += "."
        if item["type"] == "extra_forbidden":
            message += nearest(str(item["loc"][-1]), _fields_at(cls, item["loc"][:-1]))
        lines.append(f"config field {path}: {message}" if path else f"{cls.__name__}: {message}")
    return "\n".join(lines)


def _fields_at(cls: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    fields = list(cls.model_fields)
    for part in location:
        if choices := choices_of(cls, str(part)):
            cls = choices[0]
            fields = [name for choice in choices for name in choice.model_fields]
    return fields
