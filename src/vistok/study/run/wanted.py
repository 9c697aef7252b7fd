"""Select the records that a study asks for: runs of its choices as they are now, not as they were before an edit."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vistok.config import override, science
from vistok.errors import UserError, counted, damage_is_a_mistake
from vistok.runs.config import GeneratorRun, TokenizerRun
from vistok.runs.identity import by_contents
from vistok.study.config import Choice, Grid, StudyConfig
from vistok.study.run.record import AGAIN, extractors

Record = dict[str, Any]


@dataclass(frozen=True)
class Selection:
    """The records that a study asks for, and the names of the others."""

    records: list[Record]
    left_out: list[str]

    def told(self) -> str:
        """Return a sentence on the records left out, or an empty string."""
        if not self.left_out:
            return ""
        shown = ", ".join(self.left_out[:5]) + (", ..." if len(self.left_out) > 5 else "")
        return f"left out {counted(len(self.left_out), 'record')} that the study does not ask for (another setting, seed, length or scoring): {shown}"


def evaluator_of(study: StudyConfig) -> str | None:
    """Return the digest of the evaluator that a study names, or None."""
    if study.evaluator is None:
        return None
    from vistok.scoring.evaluators import evaluator_digest

    return evaluator_digest(study.tokenizer.data, study.evaluator)


def asked_for(study: StudyConfig, records: Sequence[Record], folder: Path) -> Selection:
    """Return the records that a grid of the study asks for.

    Raises UserError where two of them belong to the same cell, or were scored with different networks: a table would mix
    them up.
    """
    wanted = _Wanted(study, records, folder)
    kept = [record for record in records if wanted.asks_for(record)]
    _require_alike(kept, folder)
    names = {record["run"] for record in kept}
    return Selection(kept, [record["run"] for record in records if record["run"] not in names])


class _Unread(UserError):
    """A record's config has fields or values that this version does not know; `_guarded` adds the record's name."""


class _Wanted:
    """A study's choices by name, and the tokenizer records that match them."""

    def __init__(self, study: StudyConfig, records: Sequence[Record], folder: Path) -> None:
        self.study, self.folder = study, folder
        self.evaluator = evaluator_of(study)
        self.tokenizers = {choice.name: choice for grid in study.grids for choice in grid.tokenizers}
        self.generators = {choice.name: choice for grid in study.grids for choice in grid.generators}
        self.expected: dict[tuple[str, str, int], Any] = {}
        self.recorded = {record["run"] for record in records}
        self.accepted: dict[str, Record] = {}
        of_tokenizers = [record for record in records if record["row"]["kind"] == "tokenizer"]
        # Records at another image size come after those of the runs whose weights they use.
        for record in sorted(of_tokenizers, key=lambda record: "weights" in record):
            if self._guarded(self._is_tokenizer, record):
                self.accepted[record["run"]] = record

    def _guarded(self, asked: Callable[[Record], bool], record: Record) -> bool:
        what = f"record {self.folder / 'records' / record['run']}.json"
        try:
            with damage_is_a_mistake(what, AGAIN):
                return asked(record)
        except _Unread as error:
            raise UserError(
                f"{what}: its config cannot be read ({error}); use the version of vistok that wrote it, or {AGAIN}"
            ) from None

    def asks_for(self, record: Record) -> bool:
        """Whether a grid asks for a record; raises UserError where it is damaged."""
        return self._guarded(self._asks_for, record)

    def _asks_for(self, record: Record) -> bool:
        row = record["row"]
        if row["kind"] == "tokenizer":
            return record["run"] in self.accepted
        return any(self._in_cell(grid, record) for grid in self.study.grids) and self._is_generator(record)

    def _is_tokenizer(self, record: Record) -> bool:
        row, choice = record["row"], self.tokenizers.get(record["row"]["choice"])
        if choice is None or not any(_has(grid, choice.name, row["seed"]) for grid in self.study.grids):
            return False
        trained = choice if choice.of is None else self.tokenizers[choice.of]
        if choice.of is None:
            same = "weights" not in record
        else:
            base = self.accepted.get(record.get("weights", ""))
            same = row["image_size"] == choice.image_size and base is not None and base["row"]["choice"] == choice.of
        return same and self._scored_alike(record) and self._same("tokenizer", trained, record)

    def _is_generator(self, record: Record) -> bool:
        choice, tokenizer = self.generators[record["row"]["choice"]], record["row"]["tokenizer_run"]
        # Generators whose tokenizer has no record are kept: the table will report it as missing.
        of_ours = tokenizer in self.accepted or tokenizer not in self.recorded
        return of_ours and self._scored_alike(record) and self._same("generator", choice, record)

    def _in_cell(self, grid: Grid, record: Record) -> bool:
        row = record["row"]
        return (
            _has(grid, row["tokenizer_choice"], row["seed"])
            and any(choice.name == row["choice"] for choice in grid.generators)
            and record["config"].get("length") in [length.model_dump(mode="json") for length in grid.lengths]
            and (grid.max_flops is None or row["train_flops"] <= grid.max_flops)
        )

    def _same(self, kind: str, choice: Choice, record: Record) -> bool:
        """Whether a record's config is what its choice gives today; the length of generators is checked with the grid."""
        seed = record["row"]["seed"]
        if (kind, choice.name, seed) not in self.expected:
            base = self.study.tokenizer if kind == "tokenizer" else self.study.generator
            self.expected[kind, choice.name, seed] = override(base, list(choice.set)).replace(seed=seed)
        expected = self.expected[kind, choice.name, seed]
        recorded = _config(record, type(expected))
        if isinstance(expected, GeneratorRun):
            expected = expected.replace(length=recorded.length)
        return _science(recorded) == _science(expected)

    def _scored_alike(self, record: Record) -> bool:
        if self.evaluator is not None and extractors(record) - {self.evaluator}:
            return False
        guidance, scoring = record["detail"].get("guidance"), self.study.scoring
        if guidance is None:
            return True
        drawn = {score["protocol"]["num_samples"] for score in record["detail"]["gfmd"].values()}
        scales = {f"{scale:g}" for scale in scoring.scales}
        searched = (guidance["num_samples"], set(guidance["scores"]))
        return drawn == {scoring.samples} and searched == (scoring.search_samples, scales)


def _has(grid: Grid, tokenizer: str, seed: int) -> bool:
    return seed in grid.seeds and any(choice.name == tokenizer for choice in grid.tokenizers)


def _config(record: Record, kind: Any) -> Any:
    try:
        return kind.from_json(json.dumps(record["config"]))
    except UserError as error:
        raise _Unread(str(error)) from None


def _science(config: Any) -> Any:
    return science(by_contents(config) if isinstance(config, TokenizerRun) else config)


def _require_alike(records: Sequence[Record], folder: Path) -> None:
    """Raise UserError where records must not be averaged together."""
    scored: dict[str, str] = {}
    cells: dict[tuple[Any, ...], str] = {}
    for record in records:
        row, run = record["row"], record["run"]
        for digest in extractors(record):
            scored.setdefault(digest, run)
        cell = (
            row["kind"],
            row.get("tokenizer_choice"),
            row["choice"],
            row["seed"],
            json.dumps(record["config"]["length"]),
        )
        if cell in cells:
            raise UserError(
                f"{folder}: the records {cells[cell]} and {run} are of one choice, seed and length, but of different images or "
                "files; a table would mix them up. Move the one you do not want out of records/"
            )
        cells[cell] = run
    if len(scored) > 1:
        runs = ", ".join(f"{run} by {digest[:12]}" for digest, run in sorted(scored.items()))
        raise UserError(
            f"{folder}: its records were scored by {len(scored)} networks ({runs}), whose distances cannot be compared. Choose "
            "one with --set evaluator=RUN, or move the records of the others out of records/"
        )
