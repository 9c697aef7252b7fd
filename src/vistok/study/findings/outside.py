"""Networks that a study did not train, beside those that it did: scored by its protocol, used by none of its claims."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vistok.errors import UserError, damage_is_a_mistake
from vistok.files import read_json, write_json
from vistok.metrics.protocol import Protocol, Score, differences
from vistok.study.run.record import StudyFolder

SCHEMA = 1
AGAIN = "delete it and score the network again"
# The scores that are shown, by their metric.
SHOWN = {"PSNR (dB)": "psnr", "SSIM": "ssim", "rFMD": "rfmd", "rFID": "rfmd", "gFMD": "gfmd", "gFID": "gfmd"}


@dataclass(frozen=True)
class Outside:
    """A network's scores that have a protocol of the study."""

    name: str
    scores: tuple[Score, ...]

    def shown(self, column: str) -> Score | None:
        """Return the score of a column of the study's table, or None."""
        return next((score for score in self.scores if SHOWN.get(score.protocol.metric) == column), None)


def add_outside(folder: StudyFolder, name: str, scores: Sequence[Score]) -> Path:
    """Keep a network's scores with a study, whose report then shows them; return the file.

    Those of other protocols than the study's are left out. Raises UserError if that leaves none, naming what differs; if the
    name cannot be a file's; and if the folder holds no study.
    """
    if not re.fullmatch(r"[\w][\w .+-]{0,99}", name):
        raise UserError(f"name {name!r:.60}: it becomes a file name: letters, digits, spaces and . + - _, at most 100")
    protocols = list(_protocols(folder))
    if not protocols:
        raise UserError(f"{folder.path} holds no records of a study; give its folder, as in results/images64")
    fitting = [score for score in scores if score.protocol in protocols]
    if not fitting:
        raise UserError(
            f"{name} was not scored as {folder.path} scores: {_apart(scores, protocols)}. {_advice(folder)}"
        )
    file = folder.path / "outside" / f"{name}.json"
    content = [score.model_dump(mode="json") for score in fitting]
    write_json(file, {"schema_version": SCHEMA, "name": name, "scores": content})
    return file


def outside_of(folder: StudyFolder) -> list[Outside]:
    """Return the networks that were added to a study, by name. Raises UserError for damaged or edited files."""
    found: list[Outside] = []
    for file in sorted((folder.path / "outside").glob("*.json")):
        content = read_json(file, f"scores {file}", AGAIN)
        with damage_is_a_mistake(f"scores {file}", AGAIN):
            if content["schema_version"] != SCHEMA:
                raise ValueError(f"schema version {content['schema_version']!s:.20}")
            found.append(Outside(str(content["name"]), tuple(Score.read(score) for score in content["scores"])))
    return found


def outside_lines(networks: Sequence[Outside]) -> list[str]:
    """Return the networks as a section of a Markdown summary; nothing if there are none."""
    if not networks:
        return []
    lines = [
        "",
        "Other networks, scored as the study scores but not trained by it; no claim uses them:",
        "",
        "| network | PSNR (dB) | SSIM | rFMD | gFMD |",
        "|---|---|---|---|---|",
    ]
    for network in networks:
        cells = (network.shown(column) for column in ("psnr", "ssim", "rfmd", "gfmd"))
        lines.append(f"| {network.name} | {' | '.join(_cell(score) for score in cells)} |")
    return lines


def _cell(score: Score | None) -> str:
    if score is None:
        return ""
    interval = "" if score.low is None or score.high is None else f" ({score.low:.4g} to {score.high:.4g})"
    return f"{score.value:.4g}{interval}"


def _protocols(folder: StudyFolder) -> Iterator[Protocol]:
    """Yield the different protocols of a study's scores."""
    seen = set()
    for record in folder.records() if (folder.path / "records").is_dir() else ():
        for stored in _stored(record["detail"]):
            protocol = Protocol.model_validate(stored)
            if protocol not in seen:
                seen.add(protocol)
                yield protocol


def _stored(detail: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for part in (detail.get("scores", {}), detail.get("gfmd", {})):
        yield from (score["protocol"] for score in part.values() if isinstance(score, dict) and "protocol" in score)


def _apart(scores: Sequence[Score], protocols: Sequence[Protocol]) -> str:
    pairs = [
        (score.protocol.metric, differences(score.protocol, protocol))
        for score in scores
        for protocol in protocols
        if score.protocol.metric == protocol.metric
    ]
    if not pairs:
        return "they have no kind of score in common"
    metric, fewest = min(pairs, key=lambda pair: len(pair[1]))
    return f"of {metric}, {'; '.join(fewest)}"


def _advice(folder: StudyFolder) -> str:
    return (
        f"Score it with the study as its reference, and on as many samples: vistok.score(network, {str(folder.path)!r})"
    )
