"""Whether a run has ended with its weights in place. A lost record of that can be had from the weights themselves."""

from pathlib import Path
from typing import Any

from vistok.engine.checkpoint_files import finished, step_of
from vistok.engine.run_dir import RunDir
from vistok.engine.weights_header import read_header
from vistok.errors import UserError

RECORD = "finished.json"


def ending(run: RunDir, total_steps: int) -> dict[str, Any]:
    """Return what a run's finished.json says, or would say if it were neither lost nor damaged; empty if the run has not ended.

    The weights say it where they are of the last step and there is no checkpoint of it, from which they would be written again: to
    train once more would throw them away. Raises UserError if it is damaged, and there are no such weights.
    """
    damaged = None
    try:
        if found := _recorded(run):
            return found
    except UserError as error:
        damaged = error
    headers = _headers(run)
    facts = headers.get("ema", {}).get("training") or {}
    last = any(step_of(path) == total_steps for path in finished(run.checkpoints))
    if facts.get("steps") == total_steps and not last:
        return {**facts, "digests": {weights: header["digest"] for weights, header in headers.items()}}
    if damaged is not None and not last:
        raise damaged
    return {}


def keep_ending(run: RunDir, total_steps: int) -> None:
    """Write the record of a run that has ended anew if it is missing or damaged."""
    try:
        known = _recorded(run)
    except UserError:
        known = None
    if known is None:
        run.finish(**ending(run, total_steps))


def missing_exports(run: RunDir, ended: dict[str, Any]) -> list[Path]:
    """Return the files of weights that a run wrote at its end and that are gone, damaged, or no longer those. `ended`: its `ending`."""
    headers = _headers(run)
    digests = ended.get("digests", {}).items()
    return [run.export(weights) for weights, digest in digests if headers.get(weights, {}).get("digest") != digest]


def _recorded(run: RunDir) -> dict[str, Any] | None:
    """Return what finished.json says, None if there is none. Raises UserError if it is damaged."""
    found = run.read(RECORD)
    if found is not None and not (found and isinstance(found.get("digests", {}), dict)):
        raise UserError(f"{run.path}/{RECORD}: damaged; delete the file and repeat the command")
    return found


def _headers(run: RunDir) -> dict[str, dict[str, Any]]:
    """Return the headers of a run's weights that can be read, by the names under which its record has them."""
    found = {}
    for file in sorted(run.export().parent.glob("*.safetensors")):
        try:
            found["ema" if file == run.export() else file.stem] = read_header(file)
        except UserError:
            continue
    return found
