"""What to do with a file or folder that a verb cannot use: other projects' weights, other kinds of network."""

import shlex
from pathlib import Path

from safetensors import safe_open

from vistok.errors import UserError, damage_is_a_mistake
from vistok.runs.foreign_families import COMMANDS, family_of

TAKEN_BY = {
    "tokenizer": "vistok cache, vistok reconstruct and vistok evaluate tokenizer take it",
    "generator": "vistok sample and vistok evaluate generator take it",
    "classifier": "it is an evaluator: pass it with --evaluator",
}


def what_to_do(file: Path, kind: str | None) -> str:
    """Return what another program's weights seem to be, judging by their names, and which verb imports them."""
    family = family_of(name.removeprefix("module.") for name in _names(file))
    if family is not None and family[1] not in COMMANDS:
        return f"it looks like {family[0]}: {family[1]}"
    if family is not None:
        return (
            f"it looks like {family[0]}. Make a run directory of it first: {_command(family[1], file)}, then give RUN"
        )
    if kind == "classifier":
        return "an evaluator is a run of vistok train classifier; Inception's weights are given with --inception FILE"
    return (
        "make a run directory of it first, with the verb for the project that wrote it: "
        + "; ".join(_command(key, file) for key in ("llamagen", "diffusers", "taming"))
        + "; then give RUN"
    )


def _command(key: str, file: Path) -> str:
    return (
        COMMANDS[key]
        .replace("FILE.yaml", "YAML")
        .replace("FILE", shlex.quote(str(file)))
        .replace("FOLDER", shlex.quote(str(file.parent)))
    )


def _names(file: Path) -> list[str]:
    """Return the tensor names in a safetensors file; none for other files, which only vistok import reads."""
    try:
        with damage_is_a_mistake("", ""), safe_open(str(file), framework="pt") as tensors:
            return list(tensors.keys())
    except UserError:
        return []


def require_run(path: Path) -> None:
    """Raise UserError for a folder that is recognisably something other than a run directory."""
    for marks, words in (
        *(
            (("manifest.json", f"{kind}.npy"), f"a cache of {kind}; give the run directory of a network")
            for kind in ("tokens", "vectors", "features")
        ),
        (
            ("model.safetensors",),
            f"a folder for the hub; make a run directory of it: vistok import hub {shlex.quote(str(path))} --out RUN",
        ),
    ):
        if all((path / mark).is_file() for mark in marks) and not (path / "finished.json").is_file():
            raise UserError(f"{path} is {words}")
