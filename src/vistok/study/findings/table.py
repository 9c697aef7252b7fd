"""Records -> one tidy table, runs.csv: a row for every finished run."""

import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vistok.errors import UserError, damage_is_a_mistake
from vistok.files import write_atomic
from vistok.study.config import StudyConfig
from vistok.study.run.record import COLUMNS, NUMBERS, StudyFolder
from vistok.study.run.wanted import asked_for

AGAIN = "make it anew with vistok study report"
# Of a generator's row: what it takes over from its tokenizer's.
INHERITED = ("psnr", "ssim", "rfmd", "rfmd_low", "rfmd_high", "position_entropy")


def collect(folder: StudyFolder, study: StudyConfig) -> tuple[pd.DataFrame, str]:
    """Return the table of the records that a study asks for, and a sentence on those that are left out.

    Columns: the usual ones, and behind them whatever else the scores of its runs gave.

    Kinds: tokenizer, generator. `total_flops` is of both stages. `by_position` holds numbers in raster order:
    entropies in bits of a tokenizer's tokens, held-out nats of a generator. `alarms` names those that a run ended with, a
    generator's also as tokenizer:NAME those of its tokenizer. Raises UserError where there are no records.
    """
    found = asked_for(study, folder.records(), folder.path)
    place = shlex.quote(str(folder.path))
    if not found.records and not found.left_out:
        raise UserError(f"{folder.path} holds no records; run the study first: vistok study run STUDY --out {place}")
    if not found.records:
        raise UserError(
            f"{folder.path}: {found.told()}; none is left. Give the same --set and grids as vistok study run was given"
        )
    return _tabulate(found.records, folder), found.told()


def _tabulate(records: list[dict[str, Any]], folder: StudyFolder) -> pd.DataFrame:
    # What a record says beside the usual columns stands behind them.
    more = dict.fromkeys(name for record in records for name in record["row"] if name not in COLUMNS)
    table = pd.DataFrame([record["row"] for record in records]).reindex(columns=[*COLUMNS, *more])
    names = ["tokenizer_run", "tokenizer_choice"]
    table[names] = table[names].astype(object)  # empty columns are of numbers
    is_tokenizer = table.kind == "tokenizer"
    table.loc[is_tokenizer, "tokenizer_run"] = table.run[is_tokenizer]
    table.loc[is_tokenizer, "tokenizer_choice"] = table.choice[is_tokenizer]
    of_tokenizer = table[is_tokenizer].set_index("run")
    lost = sorted(set(table.tokenizer_run) - set(of_tokenizer.index))
    if lost:
        raise UserError(
            f"{folder.path}: the record of tokenizer {lost[0]} is missing, on which generators were trained"
        )
    for name in INHERITED:
        table.loc[~is_tokenizer, name] = table.tokenizer_run[~is_tokenizer].map(of_tokenizer[name])
    table["alarms"] = _alarms(table)
    table["total_flops"] = table.train_flops + np.where(
        is_tokenizer, 0.0, table.tokenizer_run.map(of_tokenizer.train_flops)
    )
    table = table.convert_dtypes(convert_string=False, convert_floating=False)
    return table.sort_values(["kind", "tokenizer_choice", "seed", "choice", "steps"], ascending=[False, *[True] * 4])


def _alarms(table: pd.DataFrame) -> list[str]:
    """Return each run's alarms by name; records of earlier versions know of none."""
    own = dict(zip(table.run, table.alarms.fillna(""), strict=True))
    return [
        " ".join([own[run], *([] if run == of else [f"tokenizer:{name}" for name in own[of].split()])]).strip()
        for run, of in zip(table.run, table.tokenizer_run, strict=True)
    ]


def alarm_sentence(table: pd.DataFrame) -> str:
    """Return how many runs ended with which alarms of their own, empty where none did."""
    told = []
    for kind in ("tokenizer", "generator"):
        rows = table[table.kind == kind]
        names = [[name for name in text.split() if ":" not in name] for text in rows.alarms]
        counts = Counter(name for own in names for name in own)
        if counts:
            each = ", ".join(f"{name} {count}" for name, count in counts.most_common())
            told.append(f"{sum(map(bool, names))} of {len(rows)} {kind}s ended with alarms ({each})")
    return "; ".join(told)


def write_table(table: pd.DataFrame, file: Path) -> None:
    """Write the table as CSV."""
    write_atomic(file, table.to_csv(index=False).encode())


def read_table(file: Path) -> pd.DataFrame:
    """Read a table; raises UserError where it is missing or lacks columns."""
    if not file.is_file():
        raise UserError(f"{file} is missing; make it with vistok study report")
    with damage_is_a_mistake(f"table {file}", AGAIN):
        table = pd.read_csv(file)
    if "alarms" not in table:  # of an earlier version, which knew of none
        table["alarms"] = ""
    table["alarms"] = table.alarms.fillna("").astype(str)
    lacking = [name for name in COLUMNS if name not in table]
    if lacking:
        raise UserError(f"{file} lacks the columns {', '.join(lacking)}; {AGAIN}")
    if wrong := [name for name in NUMBERS if not pd.api.types.is_numeric_dtype(table[name])]:
        raise UserError(f"{file}: the column {wrong[0]} holds something that is not a number; {AGAIN}")
    return table


def generators(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of generators."""
    return table[table.kind == "generator"]


def tokenizers(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of tokenizers."""
    return table[table.kind == "tokenizer"]


def positions(rows: pd.DataFrame) -> np.ndarray:
    """Return what rows hold by position, (rows, positions)."""
    return np.array([[float(value) for value in text.split()] for text in rows.by_position])
