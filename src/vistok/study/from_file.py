"""A study written in a YAML or TOML file: a recipe with changes, or all of it.

base: images64_study          # a recipe to change; without it, tokenizer, generator and grids are needed
tokenizer:
  base: images64_vq           # the same for a part of it, inside `tokenizer` and `generator`
  length: 2000 steps
generator.optimizer.lr: 1e-3  # a path, as for --set
grids:
  - name: main
    tokenizers:
      - {name: none}
      - {name: codes-256, set: {tokenizer.quantizer.codebook_size: 256}}
    generators: [{name: s, set: {generator.width: 96}}]
    lengths: [500 steps, 1000 steps]
"""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from vistok.config import override
from vistok.config_paths import field_paths
from vistok.errors import UserError, damage_is_a_mistake, nearest, reason
from vistok.files import read_bytes
from vistok.recipes import find_recipe, recipe_kinds
from vistok.study.config import StudyConfig

SUFFIXES = (".yaml", ".yml", ".toml")
MOST_BYTES = 2**20
# What YAML 1.1 reads as text although people mean a number: an exponent without a point.
_EXPONENT = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")


def is_study_file(text: str) -> bool:
    """Whether a study is named by a file rather than by a recipe."""
    return text.lower().endswith(SUFFIXES)


def read_study(path: Path) -> StudyConfig:
    """Return the study that a file describes; its name is the file's unless the file says another.

    Raises UserError naming the file and the field that is missing, unknown or wrong.
    """
    what = f"study {path}"
    content = _parsed(path, what)
    try:
        return _study(content, path)
    except UserError as error:
        raise UserError(f"{what}: {error}") from None


def _parsed(path: Path, what: str) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{what}: not found; give a file, or the name of a recipe: {', '.join(_studies())}")
    data = read_bytes(path)
    if len(data) > MOST_BYTES:
        raise UserError(f"{what}: {len(data):,} bytes, too many for a study; at most {MOST_BYTES:,} are read")
    try:
        with damage_is_a_mistake(what, "write it as YAML or TOML"):
            text = data.decode()
            content = tomllib.loads(text) if path.suffix.lower() == ".toml" else _numbers(yaml.safe_load(text))
    except UserError as error:
        raise UserError(_where(data, path) or str(error)) from None
    if not isinstance(content, dict):
        raise UserError(f"{what}: expected fields such as base and grids, found {type(content).__name__}")
    return content


def _where(data: bytes, path: Path) -> str:
    """Return a sentence on where YAML is wrong; "" for anything else."""
    if path.suffix.lower() == ".toml":
        return ""
    try:
        yaml.safe_load(data)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        return f"study {path}: not YAML ({place}{reason(ValueError(error.problem or 'wrong'))}); mend that line"
    except yaml.YAMLError as error:
        return f"study {path}: not YAML ({reason(error)}); mend it"
    return ""


def _numbers(value: Any) -> Any:
    """Return YAML's values with 1e-3 as a number."""
    if isinstance(value, dict):
        return {str(name): _numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    if isinstance(value, str):
        return float(value) if _EXPONENT.fullmatch(value) else value
    return value if value is None or isinstance(value, bool | int | float) else str(value)  # dates are text


def _study(content: dict[str, Any], path: Path) -> StudyConfig:
    fields = {name: value for name, value in content.items() if "." not in name}
    paths = {name: value for name, value in content.items() if "." in name}
    base = fields.pop("base", None)
    start = json.loads(_recipe(base, "study", "base").to_json()) if base is not None else {}
    start["name"] = path.stem
    known = StudyConfig.model_fields
    if unknown := [name for name in fields if name not in known]:
        raise UserError(
            f"config has no field {unknown[0]!r}.{nearest(unknown[0], [*known, 'base'])} It has base, {', '.join(known)}"
        )
    for part in ("tokenizer", "generator"):
        if part in fields:
            start[part] = _part(start.get(part, {}), fields.pop(part), part)
        elif part not in start:
            raise UserError(f"{part} is missing; name a recipe, as in {part}: {_EXAMPLES[part]}, or a study as base")
    if "grids" in fields:
        fields["grids"] = _grids(fields["grids"])
    elif "grids" not in start:
        raise UserError("grids is missing; give a list of them, each with a name, tokenizers, generators and lengths")
    study = StudyConfig.from_json(json.dumps({**start, **fields}))
    return override(study, [f"{name}={json.dumps(value)}" for name, value in paths.items()])


_EXAMPLES = {"tokenizer": "images64_vq", "generator": "images64_ar"}


def _part(start: dict[str, Any], given: Any, kind: str) -> dict[str, Any]:
    """Return the fields of a tokenizer or generator run: those of a recipe, changed."""
    if isinstance(given, str):
        given = {"base": given}
    if not isinstance(given, dict):
        raise UserError(f"{kind}: expected the name of a recipe, or fields, found {type(given).__name__}")
    given = dict(given)
    if (base := given.pop("base", None)) is not None:
        start = json.loads(_recipe(base, kind, f"{kind}.base").to_json())
    config = _config_of(kind)
    plain = {name: value for name, value in given.items() if "." not in name}
    if unknown := [name for name in plain if name not in config.model_fields and name not in config.former_paths]:
        raise UserError(f"config has no field {kind + '.' + unknown[0]!r}.{_meant(kind, unknown[0])}")
    whole = config.from_json(json.dumps(_merged(start, plain)))
    return json.loads(
        override(whole, [f"{name}={json.dumps(value)}" for name, value in given.items() if "." in name]).to_json()
    )


def _config_of(kind: str) -> Any:
    return StudyConfig.model_fields[kind].annotation


def _meant(kind: str, name: str) -> str:
    close = [path for path in field_paths(_config_of(kind)) if path.rpartition(".")[2] == name]
    return f" Did you mean {kind + '.' + close[0]!r}?" if close else nearest(name, list(_config_of(kind).model_fields))


def _merged(start: Any, given: Any) -> Any:
    """Return fields with some changed, at any depth; a part of another kind replaces the one that was there."""
    if not (isinstance(start, dict) and isinstance(given, dict)):
        return given
    if "kind" in given and given["kind"] != start.get("kind"):
        return given
    return {**start, **{name: _merged(start.get(name), value) for name, value in given.items()}}


def _grids(grids: Any) -> Any:
    """Return grids with every choice's `set` as assignments; it may be written as fields."""
    if not isinstance(grids, list):
        raise UserError(f"grids: expected a list, found {type(grids).__name__}")
    return [
        {name: [_choice(c) for c in value] if name in ("tokenizers", "generators") and isinstance(value, list) else value
         for name, value in grid.items()} if isinstance(grid, dict) else grid
        for grid in grids
    ]  # fmt: skip


def _choice(choice: Any) -> Any:
    if not isinstance(choice, dict) or not isinstance(choice.get("set"), dict):
        return choice
    return {**choice, "set": [f"{path}={json.dumps(value)}" for path, value in choice["set"].items()]}


def _recipe(name: Any, kind: str, field: str) -> Any:
    if not isinstance(name, str):
        raise UserError(f"{field}: expected the name of a recipe, found {type(name).__name__}")
    try:
        return find_recipe(name, kind)
    except UserError as error:
        raise UserError(f"{field}: {error}") from None


def _studies() -> list[str]:
    return sorted(name for name, kind in recipe_kinds().items() if kind == "study")
