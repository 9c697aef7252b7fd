"""Records -> one tidy table, runs.csv, with a row for every finished run."""

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vistok.errors import UserError, counted, damage_is_a_mistake
from vistok.files import write_atomic
from vistok.study.config import StudyConfig
from vistok.study.run.record import COLUMNS, NUMBERS, TEXTS, StudyFolder
from vistok.study.run.wanted import asked_for

AGAIN = "repeat vistok study report"
# What an image costs by pair, measured after the runs where these did not (benchmarks/study_costs.py).
IMAGE_COSTS = "image_costs.csv"
PAIR = ("tokenizer_choice", "choice", "image_size")
# Columns that a generator's row copies from its tokenizer's.
INHERITED = ("psnr", "ssim", "rfmd", "rfmd_low", "rfmd_high", "position_entropy")


def collect(folder: StudyFolder, study: StudyConfig) -> tuple[pd.DataFrame, str]:
    """Return the table of the records that a study asks for, and a sentence on the records left out.

    The usual columns come first, then any others that the runs' scores provide. `kind` is tokenizer or generator.
    `total_flops` covers both stages. `by_position` holds numbers in raster order: entropies in bits of a tokenizer's
    tokens, or held-out nats of a generator. `alarms` names the alarms a run ended with; for a generator also those of its
    tokenizer, as tokenizer:NAME. Raises UserError where there are no records.
    """
    selection = asked_for(study, folder.records(), folder.path)
    place = shlex.quote(str(folder.path))
    if not selection.records and not selection.left_out:
        raise UserError(f"{folder.path} holds no records; run the study first: vistok study run STUDY --out {place}")
    if not selection.records:
        raise UserError(
            f"{folder.path}: {selection.told()}; none is left. Use the same --set and grids as for vistok study run"
        )
    return _tabulate(selection.records, folder), selection.told()


def _tabulate(records: list[dict[str, Any]], folder: StudyFolder) -> pd.DataFrame:
    # Columns beyond the usual ones come after them.
    more = dict.fromkeys(name for record in records for name in record["row"] if name not in COLUMNS)
    table = pd.DataFrame([record["row"] for record in records]).reindex(columns=[*COLUMNS, *more])
    names = ["tokenizer_run", "tokenizer_choice"]
    table[names] = table[names].astype(object)  # empty columns would hold numbers
    is_tokenizer = table.kind == "tokenizer"
    table.loc[is_tokenizer, "tokenizer_run"] = table.run[is_tokenizer]
    table.loc[is_tokenizer, "tokenizer_choice"] = table.choice[is_tokenizer]
    of_tokenizer = table[is_tokenizer].set_index("run")
    lost = sorted(set(table.tokenizer_run) - set(of_tokenizer.index))
    if lost:
        raise UserError(
            f"{folder.path}: the record of tokenizer {lost[0]} is missing, although generators were trained on it; repeat "
            "vistok study run"
        )
    for name in INHERITED:
        table.loc[~is_tokenizer, name] = table.tokenizer_run[~is_tokenizer].map(of_tokenizer[name])
    table["alarms"] = _alarms(table)
    table["total_flops"] = table.train_flops + np.where(
        is_tokenizer, 0.0, table.tokenizer_run.map(of_tokenizer.train_flops)
    )
    table = _with_image_costs(table, folder.path / IMAGE_COSTS)
    table = table.convert_dtypes(convert_string=False, convert_floating=False)
    return table.sort_values(["kind", "tokenizer_choice", "seed", "choice", "steps"], ascending=[False, *[True] * 4])


def _with_image_costs(table: pd.DataFrame, file: Path) -> pd.DataFrame:
    """Return the table with the costs of a file; unchanged without one.

    FLOPs are a run's own where it recorded them. Milliseconds are the file's, which were measured together: those of runs depend on
    what else the machine did. They are for the file's guidance, and in proportion to FLOPs for a run's.
    """
    if not file.is_file():
        return table
    with damage_is_a_mistake(f"table {file}", "delete it, or repeat benchmarks/study_costs.py"):
        known = _read(file).set_index(list(PAIR))
        measured = known.reindex(pd.MultiIndex.from_frame(table[list(PAIR)])).set_axis(table.index)
        milliseconds, flops = measured["ms_per_image"], measured["flops_per_image"]
    own = table.reindex(columns=["ms_per_image", "flops_per_image"]).astype(float)
    table["flops_per_image"] = own.flops_per_image.fillna(flops)
    table["ms_per_image"] = (milliseconds * table.flops_per_image / flops).fillna(own.ms_per_image)
    return table


def _alarms(table: pd.DataFrame) -> list[str]:
    """Return the names of each run's alarms; records of earlier versions have none."""
    of_run = dict(zip(table.run, table.alarms.fillna(""), strict=True))
    return [
        " ".join([of_run[run], *([] if run == of else [f"tokenizer:{name}" for name in of_run[of].split()])]).strip()
        for run, of in zip(table.run, table.tokenizer_run, strict=True)
    ]


def alarm_sentence(table: pd.DataFrame) -> str:
    """Return a sentence on how many runs ended with which alarms, not counting their tokenizer's; empty if none did."""
    sentences = []
    for kind in ("tokenizer", "generator"):
        rows = table[table.kind == kind]
        names = [[name for name in text.split() if ":" not in name] for text in rows.alarms]
        counts = Counter(name for of_run in names for name in of_run)
        if counts:
            each = ", ".join(f"{name} {count}" for name, count in counts.most_common())
            sentences.append(f"{sum(map(bool, names))} of {len(rows)} {kind}s ended with alarms ({each})")
    return "; ".join(sentences)


def edge_sentence(table: pd.DataFrame, scales: Sequence[float]) -> str:
    """Return a sentence on how many generators chose the largest guidance scale that was tried; empty if none did."""
    rows = generators(table)
    count = int((rows.guidance_scale.astype(float) >= max(scales)).sum())
    if not count or len(scales) < 2:
        return ""
    return (
        f"{count} of {counted(len(rows), 'generator')} chose the largest guidance scale that was tried, {max(scales):g}: what they can "
        "do may lie beyond it"
    )


def data_root(folder: StudyFolder) -> str | None:
    """Return the folder of images that a study's first tokenizer record names; None without records."""
    for file in sorted((folder.path / "records").glob("*.json")):
        root = folder.read(file)["config"].get("data", {}).get("root")
        if root is not None:
            return str(root)
    return None


def write_table(table: pd.DataFrame, file: Path) -> None:
    """Write the table as a CSV file."""
    write_atomic(file, table.to_csv(index=False).encode())


def read_table(file: Path) -> pd.DataFrame:
    """Read a table; raises UserError where it is missing, damaged or lacks columns."""
    if not file.is_file():
        raise UserError(
            f"{file} is missing: run the study, then write its table, with vistok study run STUDY and vistok study report STUDY"
        )
    with damage_is_a_mistake(f"table {file}", AGAIN):
        table = _read(file)
    if "alarms" not in table:  # written by an earlier version, without alarms
        table["alarms"] = ""
    table["alarms"] = table.alarms.fillna("").astype(str)
    lacking = [name for name in COLUMNS if name not in table]
    if lacking:
        raise UserError(f"{file} lacks the columns {', '.join(lacking)}; {AGAIN}")
    if table.empty:
        raise UserError(f"{file} has no runs yet; {AGAIN}")
    if table[["kind", "run", "choice", "tokenizer_choice", "data"]].isna().any(axis=None):
        raise UserError(f"{file}: a row lacks its kind, run, choice, tokenizer_choice or data; {AGAIN}")
    if (twice := table.run[table.run.duplicated()]).size:
        raise UserError(f"{file}: the run {twice.iloc[0]} is there twice; {AGAIN}")
    if wrong := [name for name in NUMBERS if not pd.api.types.is_numeric_dtype(table[name])]:
        raise UserError(f"{file}: the column {wrong[0]} holds values that are not numbers; {AGAIN}")
    return table


def _read(file: Path) -> pd.DataFrame:
    """Read a CSV file whose texts stay texts: a choice may be called null, nan or 64."""
    names = pd.read_csv(file, nrows=0).columns
    missing = {name: [""] if name in TEXTS else ["", "nan", "NaN", "NA"] for name in names}
    return pd.read_csv(file, dtype=dict.fromkeys(TEXTS, str), keep_default_na=False, na_values=missing)


def generators(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of generators."""
    return table[table.kind == "generator"]


def tokenizers(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of tokenizers."""
    return table[table.kind == "tokenizer"]


def positions(rows: pd.DataFrame) -> np.ndarray:
    """Return the rows' numbers by position, (rows, positions)."""
    return np.array([[float(value) for value in text.split()] for text in rows.by_position])
