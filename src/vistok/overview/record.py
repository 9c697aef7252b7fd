"""What a run directory says of itself: config, position, state, scores, alarms. Reading it needs no torch."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from vistok.engine.checkpoint_files import finished as whole_checkpoints
from vistok.engine.checkpoint_files import step_of
from vistok.engine.log import Row, read_rows
from vistok.engine.run_dir import RunDir
from vistok.errors import UserError, bounds
from vistok.files import is_locked, read_json
from vistok.recipes import all_recipes
from vistok.runs.health.only_begun import has_only_begun

FINISHED, TRAINING, STOPPED, NOT_BEGUN = "finished", "training", "stopped", "not begun"
_NOT_SCIENCE = ("name", "recipe", "data.root", "execution.")
PUT_BACK = "put the file back as it was, or delete it and repeat the command that trains the run"
# Alarms of a dead run in rows of earlier versions, which did not mark them.
_DEAD = ("blind", "learned_nothing")
# By kind: where the main score may be found, the best place first: in an evaluation, then in the last validation.
_EVALUATED = {"tokenizer": ("rfmd", "rfid", "psnr"), "generator": ("gfmd", "gfid")}
# In which order scores stand for a run, by the images that they were measured on.
_SPLITS = {"test": 0, "val": 1}
_VALIDATED = {
    "tokenizer": (("psnr", "PSNR", "dB"),),
    "generator": (
        ("nats_per_token", "nats per token", ""),
        ("matching_loss", "matching loss", ""),
        ("masked_loss", "nats per masked token", ""),
        ("sample_spread", "sample spread", ""),
    ),
    "classifier": (("accuracy", "accuracy", ""),),
}


@dataclass(frozen=True)
class MainScore:
    """The score that stands for a run: what it is, its value and interval, and on which images it was measured.

    `evaluator` is empty for a number of the last validation during training, which is not an evaluation.
    """

    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    evaluator: str = ""
    reference: str = ""
    samples: int | None = None
    treatment: str = ""

    def __str__(self) -> str:
        return f"{self.metric} {self.value:.4g}{bounds(self.value, self.low, self.high)}"


@dataclass(frozen=True)
class Standing:
    """An alarm that has not ended: its name and value, what it says with its advice, and whether the run is dead."""

    name: str
    value: float
    words: str
    dead: bool


class RunRecord:
    """A run directory, read once; properties are computed when first asked for.

    Raises UserError if the directory is not a run.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dir = RunDir(path)
        self.config = self.dir.read_config()

    @property
    def name(self) -> str:
        """The directory's name."""
        return self.path.name

    @property
    def kind(self) -> str:
        """What is trained: "tokenizer", "generator" or "classifier"."""
        return str(self.config.get("kind", "run"))

    @cached_property
    def recipe(self) -> str:
        """The recipe that the config began from, or "" if none is known."""
        name = self.config.get("recipe") or str(self.config.get("name", "")).replace("-", "_")
        return name if name in all_recipes() else ""

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """Derived numbers: steps, parameters, FLOPs. Empty for a run that never began."""
        found = self._read("resolved.json", {"steps": int, "params": dict | int})
        if isinstance(params := found.get("params"), dict) and not all(
            isinstance(count, int) for count in params.values()
        ):
            raise UserError(f"{self.path}/resolved.json: params is {params!r:.60}; {PUT_BACK}")
        return found

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Code, versions, machine and command of the first sitting, and all `sittings`."""
        return self._read("provenance.json", {"sittings": list})

    @cached_property
    def finished(self) -> dict[str, Any]:
        """Steps, seconds and FLOPs of a run that ended; empty otherwise."""
        return self._read("finished.json", {"steps": int, "seconds": int | float, "train_flops": int | float})

    def _read(self, name: str, kinds: dict[str, Any]) -> dict[str, Any]:
        """Return one of the run's files. Raises UserError if it is damaged, or has been edited to what cannot be there."""
        content = self.dir.read(name) or {}
        for field, kind in kinds.items():
            if field in content and not isinstance(content[field], kind):
                raise UserError(f"{self.path}/{name}: {field} is {content[field]!r:.60}; {PUT_BACK}")
        return content

    @cached_property
    def rows(self) -> list[Row]:
        """All rows of metrics.jsonl."""
        return read_rows(self.dir.metrics)

    @cached_property
    def step(self) -> int:
        """Steps done, as far as they are written down: at the end, in training, or where a stopped run goes on."""
        if self.finished:
            return int(self.finished.get("steps") or 0)
        if self.state == STOPPED:
            return max(map(step_of, whole_checkpoints(self.dir.checkpoints)), default=0)
        return int(self.rows[-1]["step"]) if self.rows else 0

    @property
    def steps(self) -> int | None:
        """Steps in all, if known."""
        return self.resolved.get("steps") or self.finished.get("steps")

    @property
    def seconds(self) -> float:
        """Seconds of training so far, over all sittings."""
        last = next((row["seconds"] for row in reversed(self.rows) if "seconds" in row), 0.0)
        return float(self.finished.get("seconds") or last)

    @cached_property
    def state(self) -> str:
        """One of "finished", "training" (a process holds its lock), "stopped" and "not begun"."""
        if self.finished:
            return FINISHED
        if is_locked(self.path / "lock"):
            return TRAINING
        return STOPPED if self.rows else NOT_BEGUN

    @property
    def only_begun(self) -> str:
        """What a run is still close to that has only begun to learn; empty for others, and for shortcuts, whose losses mean other things."""
        return "" if self.config.get("shortcut") else has_only_begun(self.rows)

    @cached_property
    def alarms(self) -> list[Standing]:
        """The alarms that were raised and have not ended since, those of a dead run first."""
        if self.finished and not (self.rows and self.rows[-1]["step"] >= self.step):  # rows were lost; the weights know
            from vistok.runs.health.gate import alarms_of

            return [Standing(alarm.name, alarm.value, str(alarm), alarm.dead) for alarm in alarms_of(self.path)]
        standing: dict[str, Standing] = {}
        for row in self.rows:
            if row["kind"] != "alarm":
                continue
            name = row["alarm"]
            standing.pop(name, None)
            if not row.get("ended"):
                dead = row.get("dead", name in _DEAD)
                standing[name] = Standing(name, row["value"], row["advice"], dead)
        return sorted(standing.values(), key=lambda alarm: not alarm.dead)

    @cached_property
    def differs(self) -> dict[str, Any]:
        """Values that differ from the recipe's, by path, but for those that do not change the result.

        Empty if the recipe is not known. A part that the recipe has and the run lacks is None.
        """
        if not self.recipe:
            return {}
        recipe = all_recipes()[self.recipe]()
        try:  # files of earlier versions lack fields that have been added since
            config = type(recipe).from_json(json.dumps(self.config))
        except UserError:
            return {}
        mine, theirs = (dict(_leaves(json.loads(each.to_json()))) for each in (config, _of_a_teacher(recipe, config)))
        changed = {path: value for path, value in mine.items() if theirs.get(path, ...) != value}
        gone = _outermost([path for path in theirs if path not in mine])
        # A part that is there, of another kind, or where the recipe has none (null), is told by its values.
        gone = {path: value for path, value in gone.items() if not any(has.startswith(f"{path}.") for has in mine)}
        return {path: value for path, value in (changed | gone).items() if not path.startswith(_NOT_SCIENCE)}

    @property
    def folder(self) -> str:
        """The user's own folder of images that the run was trained on; "" for data sets with a name, and for generators."""
        data = self.config.get("data") or {}
        return str(data.get("root", "")) if data.get("dataset") == "folder" else ""

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """The contents of evaluation files, the newest last; damaged ones are left out, and named in `left_out`."""
        return self._evaluations[0]

    @property
    def left_out(self) -> list[str]:
        """What is wrong with evaluations that cannot be read."""
        return self._evaluations[1]

    @cached_property
    def _evaluations(self) -> tuple[list[dict[str, Any]], list[str]]:
        files = sorted((self.path / "evaluations").glob("*.json"), key=lambda file: file.stat().st_mtime)
        found, damaged = [], []
        for file in files:
            try:
                content = read_json(file, str(file), "delete the file and evaluate again")
                if not all(map(_is_score, _scores_in(content))):
                    raise UserError(f"{file}: a score in it is damaged; delete the file and evaluate again")
            except (UserError, OSError) as error:
                damaged.append(str(error))
                continue
            found.append(content)
        return [content for content in found if content.get("kind") != "guidance"], damaged

    @cached_property
    def scores(self) -> list[dict[str, Any]]:
        """All scores of the evaluations, as stored: `value`, `low`, `high`, `protocol`, `treatment`."""
        return [score for content in self.evaluations for score in _scores_in(content)]

    @cached_property
    def main_score(self) -> MainScore | None:
        """A Fréchet distance, else PSNR of an evaluation, else a number of the last validation.

        Of several, that to the test images, else to those held out, else to others; of equals the newest.
        """
        for key in _EVALUATED.get(self.kind, ()):
            scores = [content[key] for content in reversed(self.evaluations) if isinstance(content.get(key), dict)]
            if found := [score for score in scores if _is_score(score)]:
                return _main(min(found, key=lambda score: _SPLITS.get(_split_of(score), len(_SPLITS))))
        last: Row = next((row for row in reversed(self.rows) if row["kind"] == "validation"), {})
        for name, metric, unit in _VALIDATED.get(self.kind, ()):
            if name in last:
                return MainScore(f"{metric} ({unit})" if unit else metric, last[name], reference="validation")
        return None

    @cached_property
    def pictures(self) -> list[Path]:
        """The sheets made during training, the newest last."""
        return sorted(self.dir.samples.glob("*.png"))


def _is_score(score: dict[str, Any]) -> bool:
    """Whether a score is one as evaluations write it."""
    bounds_ = (score.get("low"), score.get("high"))
    return (
        isinstance(score.get("protocol"), dict)
        and "metric" in score["protocol"]
        and isinstance(score.get("value"), int | float)
        and all(bound is None or isinstance(bound, int | float) for bound in bounds_)
    )


def _split_of(score: dict[str, Any]) -> str:
    """Return the split that a score's reference images are of, the last word of what its protocol says."""
    return str(score["protocol"].get("reference", "")).rpartition(" ")[2]


def _main(score: dict[str, Any]) -> MainScore:
    protocol, treatment = score["protocol"], score.get("treatment") or {}
    scale = (treatment.get("sampling") or treatment).get("guidance_scale")
    guided = f"guidance {scale:g}" if isinstance(scale, int | float) else ""
    evaluator = "" if protocol.get("extractor", "none") == "none" else protocol["extractor"]
    return MainScore(
        protocol["metric"], score["value"], score.get("low"), score.get("high"), evaluator,
        protocol.get("reference", ""), protocol.get("num_samples"), guided,
    )  # fmt: skip


def _scores_in(content: Any) -> Iterator[dict[str, Any]]:
    if isinstance(content, dict):
        if "protocol" in content and "value" in content:
            yield content
        else:
            for value in content.values():
                yield from _scores_in(value)


def _of_a_teacher(recipe: Any, config: Any) -> Any:
    """Return a shortcut's recipe with the network that follows from a run's teacher, which nobody chose; others as they are."""
    shortcut = getattr(config, "shortcut", None)
    if shortcut is None:
        return recipe
    return recipe.replace(generator=config.generator if config.teacher else shortcut.network(recipe.generator))


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (path, value) of everything in a config that is not an object; lists of objects are numbered."""
    if isinstance(value, dict) and value:
        for name, part in value.items():
            yield from _leaves(part, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        for number, part in enumerate(value):
            yield from _leaves(part, f"{path}.{part.get('kind', number)}")
    else:
        yield path, value


def _outermost(gone: list[str]) -> dict[str, Any]:
    """Return the parts that a config lacks: `losses.perceptual`, instead of everything inside it."""
    return dict.fromkeys((".".join(path.split(".")[:2]) for path in gone), None)
