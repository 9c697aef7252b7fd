"""Frozen typed configs: JSON and back, `a.b=c` overrides, and a fingerprint of what is science.

A config has two halves. *Science* changes the result and is fingerprinted. *Execution* (workers,
micro-batch, logging) does not: such fields are made with `execution()` and left out of the fingerprint.
Fields that are added to a config are made with `later()`, so that earlier runs keep their names.
"""

import hashlib
import json
import types
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from vistok.errors import UserError, nearest, printable, reason

if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)


class ConfigError(UserError, ValueError):
    """A config's values are wrong or do not fit together. A ValueError, too, so that a config around it tells where."""


class _Explained(ModelMetaclass):
    """Building a config from values raises the same errors as reading one from a file."""

    def __call__(cls, *args: Any, **values: Any) -> Any:
        try:
            return super().__call__(*args, **values)
        except ValidationError as error:
            raise ConfigError(_explain(error, cls)) from None


class Config(BaseModel, metaclass=_Explained):
    """Base of every config: frozen, strict about types, and closed to unknown fields.

    Raises ConfigError naming the field, what was found and what is allowed.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", validate_default=True)

    def to_json(self) -> str:
        """Return this config as indented JSON; `from_json` is the exact inverse."""
        return json.dumps(self.model_dump(mode="json"), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a config; raises ConfigError as building one does."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise ConfigError(_explain(error, cls)) from None

    def replace(self, **changes: Any) -> Self:
        """Return a validated copy with some fields changed."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**(fields | changes))


def _file_name(text: str) -> str:
    if not text or not (text[0].isalnum() or text[0] == "_") or not text.isprintable() or set(text) & set("/\\"):
        raise ValueError(
            f"a name becomes a file name: it begins with a letter or digit and has no '/', found {printable(text)!r}"
        )
    if len(text.encode()) > 200:
        raise ValueError(f"a name becomes a file name: at most 200 bytes, found {len(text.encode())}")
    return text


FileName = Annotated[str, AfterValidator(_file_name)]


def execution(default: Any, description: str = "") -> Any:
    """Declare a field that does not change the result, so that it is not fingerprinted."""
    return Field(default=default, description=description, json_schema_extra={"execution": True})


def later(default: Any, description: str = "") -> Any:
    """Declare a field that runs made before it did not have: at its default it is not fingerprinted.

    So a new version of vistok finds the runs, caches and records of an older one.
    """
    return Field(default=default, description=description, json_schema_extra={"later": True})


def science(config: Config) -> dict[str, Any]:
    """Return the half of a config that decides the result, as plain JSON values."""
    dumped = config.model_dump(mode="json")
    kept: dict[str, Any] = {}
    for name, field in type(config).model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("execution"):
            continue
        value = getattr(config, name)
        if isinstance(extra, dict) and extra.get("later") and value == field.default:
            continue
        # A Duration is a Config that is written as text.
        nested = isinstance(value, Config) and isinstance(dumped[name], dict)
        kept[name] = science(value) if nested else dumped[name]
    return kept


def fingerprint(config: Config, **inputs: str) -> str:
    """Return ten hex digits that identify a config's science and the digests of its inputs."""
    payload = json.dumps({"config": science(config), "inputs": inputs}, sort_keys=True)
    return hashlib.sha256(payload.encode()).hexdigest()[:10]


C = TypeVar("C", bound="Config")


def override(config: C, assignments: list[str]) -> C:
    """Return `config` with `path.to.field=value` assignments applied in order.

    Values are JSON, or plain text where JSON does not parse. Raises UserError for an unknown path
    (naming the nearest one), a wrong type or an impossible combination.
    """
    data = config.model_dump(mode="json")
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals:
            raise UserError(f"--set {assignment}: expected path=value, as in --set seed=1")
        _assign(type(config), data, path.strip().split("."), _parse(text), path.strip())
    return type(config).from_json(json.dumps(data))


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _assign(cls: type[Config], data: dict[str, Any], parts: list[str], value: Any, path: str) -> None:
    name, rest = parts[0], parts[1:]
    allowed = list(cls.model_fields) if not data else list(data)
    if name not in allowed:
        raise UserError(
            f"config has no field {path!r}: {name!r} is not one of {', '.join(allowed)}." + nearest(name, allowed)
        )
    if not rest:
        data[name] = value
        return
    if data[name] is None:
        # A part that is switched off has no fields yet: start from its defaults.
        data[name] = _defaults(cls, name, path)
    if not isinstance(data[name], dict):
        raise UserError(f"config field {path!r}: {name!r} is a value ({data[name]!r}) and has no fields")
    _assign(_class_of(cls, name, data[name]), data[name], rest, value, path)


def _class_of(cls: type[Config], name: str, data: dict[str, Any]) -> type[Config]:
    """Return the class of a nested config: the choice that has exactly these fields."""
    choices = config_choices(cls.model_fields[name].annotation) if name in cls.model_fields else []
    return next((choice for choice in choices if set(choice.model_fields) == set(data)), Config)


def _defaults(cls: type[Config], name: str, path: str) -> dict[str, Any]:
    field = cls.model_fields.get(name)
    for choice in config_choices(field.annotation if field else None):
        try:
            return choice().model_dump(mode="json")
        except ConfigError:
            continue
    raise UserError(f"config field {path!r}: {name!r} is off (null); set it to a whole JSON object first")


def config_choices(annotation: Any) -> list[type[Config]]:
    """Return the Config classes that an annotation such as `VQConfig | FSQConfig | None` allows."""
    if isinstance(annotation, type) and issubclass(annotation, Config):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        return [choice for part in get_args(annotation) for choice in config_choices(part)]
    return []


def _explain(error: ValidationError, cls: Any) -> str:
    lines = []
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"])
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
        field = cls.model_fields.get(str(part))
        choices = config_choices(field.annotation) if field else []
        if choices:
            cls = choices[0]
            fields = [name for choice in choices for name in choice.model_fields]
    return fields
