"""What advice is based on: a study's table, and the configs behind its choices."""

import json
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import pandas as pd

from vistok.config import override
from vistok.errors import UserError
from vistok.recipes import find_recipe, recipe_kinds
from vistok.runs.config import GeneratorRun, TokenizerRun
from vistok.study.config import StudyConfig
from vistok.study.findings.table import generators, read_table, tokenizers
from vistok.study.from_file import is_study_file, read_study
from vistok.study.run.record import StudyFolder

# Tables that come with vistok, without the numbers by position: of studies, by their recipe, and of benchmarks.
SHIPPED = (
    "fashion_study",
    "fashion_decisive_study",
    "openmoji_study",
    "tokens_study",
    "continuous_study",
    "fashion_shortcuts",
)


@dataclass(frozen=True)
class AdviceSource:
    """A study's table; `name` says whose. `folder` holds its records, `study` its config: either tells what was trained."""

    name: str
    table: pd.DataFrame
    folder: StudyFolder | None = None
    study: StudyConfig | None = None

    @cached_property
    def data(self) -> list[str]:
        """The data sets of its runs."""
        return sorted(set(self.table.data))

    def of_data(self, data: str | None) -> "AdviceSource":
        """Return the runs on a data set; raises UserError if there are none, or if several are to be told apart."""
        if data is None and len(self.data) > 1:
            raise UserError(f"{self.name} has runs on {', '.join(self.data)}; say which with --data")
        if data is not None and data not in self.data:
            raise UserError(
                f"{self.name} has no runs on {data!r}, only on {', '.join(self.data)}: what works best there says little about "
                "other images. Run a small study on yours: vistok study run images64_study --data FOLDER, then vistok study "
                "report images64_study"
            )
        return AdviceSource(self.name, self.table[self.table.data == (data or self.data[0])], self.folder, self.study)

    def tokenizer(self, choice: str) -> TokenizerRun | None:
        """Return what a tokenizer choice trains; None if that is not known, or if it is another choice at another size."""
        of_choice = tokenizers(self.table)
        rows = of_choice[of_choice.choice == choice]
        config = self._recorded(rows, TokenizerRun) or self._named(rows)
        if config is not None or self.study is None:
            return config
        found = next(
            (c for grid in self.study.grids for c in grid.tokenizers if c.name == choice and c.of is None), None
        )
        return None if found is None else override(self.study.tokenizer, list(found.set))

    def generator(self, choice: str) -> GeneratorRun | None:
        """Return what a generator choice trains, at some length; None if that is not known."""
        of_choice = generators(self.table)
        rows = of_choice[of_choice.choice == choice]
        config = self._recorded(rows, GeneratorRun) or self._named(rows)
        if config is not None or self.study is None:
            return config
        found = next((c for grid in self.study.grids for c in grid.generators if c.name == choice), None)
        return None if found is None else override(self.study.generator, list(found.set))

    def commands(self, choice: str) -> list[str]:
        """Return the commands that the table itself names for a generator choice; none where it has no such column."""
        if "commands" not in self.table:
            return []
        known = self.table[self.table.choice == choice].commands.dropna()
        return str(known.iloc[0]).splitlines() if len(known) else []

    def _named(self, rows: pd.DataFrame) -> Any:
        """Return the recipe that the table names for these rows; None where it names none."""
        names = list(rows["recipe"].dropna()) if "recipe" in rows else []
        return find_recipe(str(names[0])) if names else None

    def _recorded(self, rows: pd.DataFrame, kind: Any) -> Any:
        file = self.folder.record_file(str(rows.run.iloc[0])) if self.folder and len(rows) else None
        if self.folder is None or file is None or not file.is_file():
            return None
        record = self.folder.read(file)
        return None if "weights" in record else kind.from_json(json.dumps(record["config"]))


def advice_source(text: str | None) -> AdviceSource:
    """Return what a folder of results, a study's recipe or a study's file stands for; None: the Fashion-MNIST study.

    Studies that come with vistok need no results of one's own. Raises UserError where there are none.
    """
    text = text or SHIPPED[0]
    if Path(text).is_dir():
        return _of_folder(Path(text))
    if is_study_file(text):
        return _of_folder(results_folder(read_study(Path(text))))
    name = text.replace("-", "_")
    if name in SHIPPED and name not in recipe_kinds():
        return _shipped(name)
    name = name if name.endswith("_study") else f"{name}_study"  # as its results are called: fashion
    if recipe_kinds().get(name) == "study":
        own = results_folder(find_recipe(name, "study"))
        if name not in SHIPPED or own.joinpath("runs.csv").is_file():
            return _of_folder(own)
        return _shipped(name)
    raise UserError(
        f"--study {text!r}: give a folder of results (as in results/images64), a study's file, or a study that comes with "
        f"vistok: {', '.join(SHIPPED)}"
    )


def results_folder(study: StudyConfig) -> Path:
    """Return the default folder of a study's results."""
    return Path("results") / study.name.removesuffix("-study")


def _of_folder(folder: Path) -> AdviceSource:
    opened = StudyFolder(folder)
    return AdviceSource(str(folder), read_table(opened.table), opened)


def _shipped(name: str) -> AdviceSource:
    study = find_recipe(name, "study") if name in recipe_kinds() else None
    with as_file(files("vistok") / "study" / "findings" / "tables" / f"{name}.csv") as file:
        return AdviceSource(f"{name}, whose results come with vistok,", read_table(file), None, study)
