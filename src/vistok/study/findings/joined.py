"""Several studies as one source of advice: their tables joined, where their scores may be compared."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from vistok.errors import UserError
from vistok.runs.config import GeneratorRun, TokenizerRun
from vistok.study.findings.advice_source import AdviceSource, advice_source
from vistok.study.findings.table import generators

# Between a choice's name and its study's.
_OF = " of "
# What scores must share to be compared, of a score's protocol.
_PROTOCOL = ("extractor_digest", "reference_digest", "num_reference", "num_samples", "estimator")


@dataclass(frozen=True)
class JoinedSource(AdviceSource):
    """The runs of several studies; each choice is called "NAME of STUDY"."""

    parts: dict[str, AdviceSource] = field(default_factory=dict)

    def tokenizer(self, choice: str) -> TokenizerRun | None:
        """Return what a tokenizer choice trains, as its own study knows it."""
        name, _, study = choice.rpartition(_OF)
        return self.parts[study].tokenizer(name)

    def generator(self, choice: str) -> GeneratorRun | None:
        """Return what a generator choice trains, as its own study knows it."""
        name, _, study = choice.rpartition(_OF)
        return self.parts[study].generator(name)

    def commands(self, choice: str) -> list[str]:
        """Return the commands that a choice's own study names."""
        name, _, study = choice.rpartition(_OF)
        return self.parts[study].commands(name)


def joined_source(studies: Sequence[str], data: str | None) -> AdviceSource:
    """Return what studies found on a data set; none: the Fashion-MNIST study.

    Raises UserError for studies whose images or scores differ, so that theirs cannot be compared.
    """
    asked: Sequence[str | None] = studies or [None]
    sources = [advice_source(study).of_data(data) for study in asked]
    if len(sources) == 1:
        return sources[0]
    names = [source.name.partition(",")[0] for source in sources]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"--study {twice[0]} is given twice; give each study once")
    facts = [_facts(source) for source in sources]
    for name, theirs in zip(names[1:], facts[1:], strict=True):
        differ = [key for key in facts[0].keys() & theirs.keys() if facts[0][key] != theirs[key]]
        if differ:
            key = min(differ)
            raise UserError(
                f"{names[0]} and {name} cannot be compared: {key} is {facts[0][key]} in one and {theirs[key]} in the other; ask for "
                "advice from each alone"
            )
    tables = [
        source.table.assign(
            **{column: source.table[column].astype(str) + _OF + name for column in ("choice", "tokenizer_choice")}
        )
        for name, source in zip(names, sources, strict=True)
    ]
    table = pd.concat(tables, ignore_index=True)
    return JoinedSource(" and ".join(names), table, parts=dict(zip(names, sources, strict=True)))


def _facts(source: AdviceSource) -> dict[str, Any]:
    """Return what is known of the images and of how gFMD was measured."""
    facts: dict[str, Any] = {
        "data": source.data[0],
        "image_size": sorted(set(generators(source.table).image_size.dropna())),
    }
    if source.study is not None:
        facts["num_samples"] = source.study.scoring.samples
        facts["one draw for all guidance scales"] = source.study.scoring.every_scale  # whose gFMD is without its bias
    if "num_samples" in source.table and (
        counts := set(source.table.num_samples.dropna())
    ):  # a benchmark's table says it itself
        facts["num_samples"] = (
            " and ".join(f"{count:.0f}" for count in sorted(counts)) if len(counts) > 1 else int(*counts)
        )
    run = next(iter(generators(source.table).run), None)
    file = source.folder.record_file(str(run)) if source.folder and run is not None else None
    if source.folder is None or file is None or not file.is_file():
        return facts
    scores = source.folder.read(file)["detail"].get("gfmd", {}).values()
    protocol: dict[str, Any] = next((score["protocol"] for score in scores if "protocol" in score), {})
    return facts | {name: protocol[name] for name in _PROTOCOL if name in protocol}
