"""A study's best pair as two files, with weights, config, scores, and the command that made them."""

import json
from pathlib import Path
from typing import Any

from vistok.errors import UserError
from vistok.study.config import StudyConfig
from vistok.study.findings.table import collect, generators
from vistok.study.run.record import StudyFolder


def write_pair(
    study: StudyConfig, command: str, folder: StudyFolder, runs: Path, choice: str, out: Path, name: str
) -> str:
    """Write `name`_tokenizer.safetensors and `name`_generator.safetensors to `out`; return the generator's run.

    The pair is the one with the lowest gFMD to held-out training images, never the test set, among a tokenizer choice's
    runs. Raises UserError if there is none, or if its generator's weights are not on this machine.
    """
    from vistok.engine.weights import load_weights, save_weights

    rows = generators(collect(folder, study)[0])
    rows = rows[rows.tokenizer_choice == choice]
    if not len(rows):
        raise UserError(
            f"{folder.path} has no generators for the tokenizer choice {choice!r}; give one that its runs.csv names"
        )
    best = rows.iloc[int(rows.gfmd_val.to_numpy(float).argmin())]
    generator, tokenizer = (folder.read(folder.record_file(str(run))) for run in (best.run, best.tokenizer_run))
    export = runs / study.name / generator["directory"] / "export" / "model.safetensors"
    if not export.is_file():
        raise UserError(
            f"the best generator of {choice} is {best.run}, but its weights are not in {export}: delete its record "
            f"({folder.record_file(str(best.run))}), repeat vistok study run, then repeat this command"
        )
    made = {"command": command, "study": study.name}
    for kind, record, file in (
        ("tokenizer", tokenizer, folder.weights_file(tokenizer.get("weights", str(best.tokenizer_run)))),
        ("generator", generator, export),
    ):
        state, header = load_weights(file)
        kept = {key: value for key, value in header.items() if key not in ("digest", "schema_version")}
        kept |= {"scores": _scores(record), "made_by": {**made, "run": record["run"]}}
        if kind == "generator":
            kept["tokenizer"] = {**header["tokenizer"], "path": f"{name}_tokenizer.safetensors"}
        save_weights(out / f"{name}_{kind}.safetensors", state, kept)
    return str(best.run)


def _scores(record: dict[str, Any]) -> dict[str, Any]:
    """Return the scores of a record's row, and the protocols of those that have one."""
    row = {key: value for key, value in record["row"].items() if isinstance(value, int | float)}
    protocols: dict[str, Any] = {}
    for key, value in record["detail"].items():
        scores = value.values() if key == "gfmd" else [value]
        for score in scores:
            if isinstance(score, dict) and "protocol" in score:
                protocols[key] = score["protocol"]
    return json.loads(json.dumps({**row, "protocols": protocols}))
