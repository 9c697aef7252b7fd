"""Scores as an object: a value with its interval and protocol, and what else was measured with it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vistok.errors import UserError, damage_is_a_mistake, nearest
from vistok.files import read_json, write_json
from vistok.metrics.protocol import Protocol, Score, Treatment
from vistok.python.frames import how, score_frame
from vistok.python.summary import table
from vistok.python.words import in_words
from vistok.scoring.evaluations import SCHEMA

# The score that stands for all, if it is there: what generators and tokenizers are judged by.
MAIN = ("gfid", "gfmd", "rfid", "rfmd", "fid", "fmd", "psnr")
KIND = "scores"


class Scores(Mapping[str, Score]):
    """What `vistok.score` returns. `value`, `interval` and `protocol` are those of the main score, a Fréchet distance if there
    is an evaluator network, else the PSNR in dB; `scores["precision"]` is another.

    `name`: whose scores they are. `warnings`: what to know before believing them. `details`: all that was measured.

    Example: `vistok.score(samples, reference).interval`.
    """

    def __init__(
        self, name: str, scores: Sequence[Score], warnings: Sequence[str] = (), details: Mapping[str, Any] | None = None
    ) -> None:
        """Raises UserError if there is no score at all."""
        if not scores:
            raise UserError(f"{name}: no scores")
        self.name, self.all, self.warnings, self.details = name, tuple(scores), tuple(warnings), dict(details or {})

    @property
    def main(self) -> Score:
        """The score that stands for all."""
        by_key = {_key(score): score for score in reversed(self.all)}
        return next((by_key[key] for key in MAIN if key in by_key), self.all[0])

    @property
    def metric(self) -> str:
        """The main score's name."""
        return self.main.protocol.metric

    @property
    def value(self) -> float:
        """The main score's value."""
        return self.main.value

    @property
    def interval(self) -> tuple[float, float] | None:
        """The main score's 95 % interval, bias-corrected, or None if there were too few images for one."""
        main = self.main
        return None if main.low is None or main.high is None else (main.low, main.high)

    @property
    def protocol(self) -> Protocol:
        """What the main score depends on besides the images: scores are compared if all of it agrees."""
        return self.main.protocol

    @property
    def treatment(self) -> Treatment:
        """How the scored images were made."""
        return self.main.treatment

    def table(self) -> pd.DataFrame:
        """Return a row for each score, with its interval, evaluator and reference."""
        return score_frame(self.all)

    def save(self, path: str | Path) -> Path:
        """Write the scores to a .json file, which `vistok.compare` takes, and return its path."""
        place = Path(path) if str(path).endswith(".json") else Path(f"{path}.json")
        content = [score.model_dump(mode="json") for score in self.all]
        write_json(
            place,
            {
                "schema_version": SCHEMA,
                "kind": KIND,
                "name": self.name,
                "warnings": list(self.warnings),
                "scores": content,
            },
        )
        return place

    def add_to_study(self, folder: str | Path) -> Path:
        """Show these scores in a study's report, beside the networks that it trained, and return the file that keeps them.

        `folder`: the study's, as in "results/images64"; it can be the reference of `vistok.score`, too. Scores of other
        protocols than the study's are left out. Raises UserError if that leaves none, naming what differs.
        """
        from vistok.study.findings.outside import add_outside
        from vistok.study.run.record import StudyFolder

        return add_outside(StudyFolder(Path(folder)), self.name, self.all)

    def __getitem__(self, name: str) -> Score:
        found = {_key(score): score for score in reversed(self.all)}
        if name.lower() not in found:
            raise KeyError(f"no score {name!r}; there are {', '.join(found)}.{nearest(name.lower(), list(found))}")
        return found[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(_key(score) for score in self.all))

    def __len__(self) -> int:
        return len({_key(score) for score in self.all})

    def __repr__(self) -> str:
        p = self.protocol
        network = "" if p.extractor == "none" else f", features of {p.extractor}"
        against = f"{p.num_samples:,} images against {p.num_reference:,} of {p.reference}"
        return f"{self.name}: {in_words(self.main)}; {against}{network}"

    def _repr_html_(self) -> str:
        rows = [
            (
                score.protocol.metric,
                f"{score.value:.4g}",
                "" if score.low is None or score.high is None else f"{score.low:.4g} to {score.high:.4g}",
                "" if score.protocol.extractor == "none" else score.protocol.extractor,
                f"{score.protocol.num_reference:,} of {score.protocol.reference}",
                f"{score.protocol.num_samples:,}",
                how(score),
            )
            for score in self.all
        ]
        head = ("score", "value", "95 % interval", "evaluator", "reference", "images", "how")
        notes = "".join(table([(f"warning: {line}",)]) for line in self.warnings)
        return f"<div>{table([(self.name,)])}{table(rows, head)}{notes}</div>"


def _key(score: Score) -> str:
    """Return the name without its unit, in lower case: "PSNR (dB)" is psnr."""
    return score.protocol.metric.split(" (")[0].lower()


def read_scores(path: Path) -> Scores:
    """Read what `Scores.save` wrote. Raises UserError if it is damaged or edited."""
    what, advice = f"scores {path}", "score again"
    content = read_json(path, what, advice)
    if content.get("kind") != KIND or content.get("schema_version") != SCHEMA:
        raise UserError(f"{what}: not a file of Scores.save of this version; {advice}")
    with damage_is_a_mistake(what, advice):
        scores = [Score.read(score) for score in content["scores"]]
        return Scores(str(content["name"]), scores, [str(line) for line in content["warnings"]])
