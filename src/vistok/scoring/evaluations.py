"""Evaluations as files in a run's directory: their names, what they must hold, the scores in them. Needs no torch."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from vistok.engine.log import Progress
from vistok.errors import UserError, damage_is_a_mistake, reason
from vistok.files import read_json, write_json
from vistok.metrics.protocol import Score

# Version of all evaluation files: bump it when what is measured changes, or how, and they are recomputed.
SCHEMA = 3
# Fields that must be present in a file of each kind.
NEEDED = {
    "tokenizer": "run split num_images treatment.weights psnr.value ssim.value",
    "generator": "run treatment memorization.copy_share memorization.num_samples memorization.num_train "
    "memorization.num_unseen",
    "likelihood": "split ema.nats_per_token.value ema.bits_per_image.value train.nats_per_token.value",
    "guidance": "guidance_scale scores",
    "stability": "run split num_images scores",
    "probe": "run split layer score.value",
}


def evaluation_file(run: Path, name: str, **parts: Any) -> Path:
    """Return the file in which a run keeps an evaluation; `parts`: everything its numbers depend on, mainly digests."""
    payload = json.dumps({"schema": SCHEMA, **parts}, sort_keys=True)
    return run / "evaluations" / f"{name}-{hashlib.sha256(payload.encode()).hexdigest()[:10]}.json"


def keep_evaluation(file: Path, result: dict[str, Any]) -> None:
    """Write an evaluation to its file. Where that cannot be done, `not_kept` in it says why: what was measured is not lost."""
    try:
        write_json(file, result)
    except (OSError, UserError) as error:
        result["not_kept"] = reason(error)


def unkept(result: Any) -> list[str]:
    """Return why parts of a result could not be kept, each reason once, and take the marks of that out of it."""
    if not isinstance(result, dict):
        return []
    own = [result.pop("not_kept")] if "not_kept" in result else []
    return list(dict.fromkeys([*own, *(why for part in result.values() for why in unkept(part))]))


def unkept_warnings(result: Any) -> list[str]:
    """Return a warning for each reason why parts of a result are not kept in their run."""
    return [
        f"these scores are not kept in the run ({why}): vistok compare and vistok runs do not know them"
        for why in unkept(result)
    ]


def finished_evaluation(file: Path, progress: Progress) -> dict[str, Any] | None:
    """Return an earlier evaluation, and say so, or None if there is none. Raises UserError as `read_evaluation` does."""
    if not file.is_file():
        return None
    content = read_evaluation(file)
    if content.get("schema_version") != SCHEMA:  # the version is part of the file's name, so it must match
        raise UserError(f"evaluation {file}: damaged (no schema version {SCHEMA}); delete the file and evaluate again")
    progress.say(f"evaluated before: read from {file} (delete it to evaluate again)")
    return content


def read_evaluation(file: Path) -> dict[str, Any]:
    """Return an evaluation from its file. Raises UserError if it is damaged or a score in it was edited."""
    what, advice = f"evaluation {file}", "delete the file and evaluate again"
    content = read_json(file, what, advice)
    if content.get("schema_version") != SCHEMA:
        return content
    with damage_is_a_mistake(what, advice):
        for path in NEEDED[content["kind"]].split():
            _at(content, path)
        try:
            list(scores_in(content))
        except UserError as error:
            raise UserError(f"{what}: edited or damaged ({reason(error)}); {advice}") from None
    return content


def stored_scores(files: Iterable[Path]) -> list[Score]:
    """Return all scores in evaluation files of this version, but for those of searches. Raises UserError for damaged files."""
    contents = map(read_evaluation, files)
    return [
        score
        for content in contents
        if content.get("schema_version") == SCHEMA and content.get("kind") != "guidance"
        for score in scores_in(content)
    ]


def scores_in(content: Any) -> Iterator[Score]:
    """Yield all scores of an evaluation. Raises UserError for one that disagrees with its own replicates."""
    if isinstance(content, dict):
        if "protocol" in content:
            yield Score.read(content)
        else:
            for value in content.values():
                yield from scores_in(value)


def _at(content: Any, path: str) -> Any:
    for name in path.split("."):
        content = content[name]
    return content
