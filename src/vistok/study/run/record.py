"""Records: what is kept of a finished run. A run that has a record is never repeated."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from vistok.errors import UserError, damage_is_a_mistake
from vistok.files import read_json, write_atomic, write_json

SCHEMA = 1
# Of a sheet of samples: the first classes, a column each.
SHEET_COLUMNS = 10
AGAIN = "delete it and repeat vistok study run"
# Columns of a row: numbers that tables, fits and claims need, for all runs or for one kind.
NEEDED = ("seed", "num_tokens", "params", "steps", "train_flops", "seconds")
OF_TOKENIZERS = ("psnr", "rfmd")
OF_GENERATORS = ("gfmd", "gfmd_val")
# The columns of every table, and those that hold text.
COLUMNS = (
    "kind", "run", "tokenizer_run", "data", "image_size", "choice", "tokenizer_choice", "seed",
    "codebook_size", "num_tokens", "crt_weight", "crt_layers", "crt_variant",
    "params", "steps", "train_flops", "train_flops_paper", "total_flops", "seconds",
    "psnr", "ssim", "rfmd", "rfmd_low", "rfmd_high",
    "codebook_usage", "entropy", "position_entropy", "skewness", "latent_variance", "quantization_error",
    "val_nats_per_token", "train_nats_per_token", "bits_per_image",
    "gfmd", "gfmd_low", "gfmd_high", "gfmd_unguided", "gfmd_val", "guidance_scale", "swap_pixels", "swap_features",
    "by_position", "alarms",
)  # fmt: skip
TEXTS = ("kind", "run", "tokenizer_run", "data", "choice", "tokenizer_choice", "crt_variant", "by_position", "alarms")
# Regularizers besides the causal one; tables of studies without any lack this column.
OTHERS = "other_regularizers"
NUMBERS = tuple(name for name in COLUMNS if name not in TEXTS)


class StudyFolder:
    """`results/<study>/`: records of finished runs, tokenizers' weights, and the report."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def table(self) -> Path:
        """The table of all runs."""
        return self.path / "runs.csv"

    def record_file(self, run: str) -> Path:
        """File of a run's record."""
        return self.path / "records" / f"{run}.json"

    def weights_file(self, tokenizer_run: str) -> Path:
        """File of a tokenizer's EMA weights."""
        return self.path / "tokenizers" / f"{tokenizer_run}.safetensors"

    def sheet_file(self, run: str) -> Path:
        """File of a generator's samples: one PNG."""
        return self.path / "samples" / f"{run}.png"

    def finished(self, run: str) -> bool:
        """Whether a run has a record."""
        return self.record_file(run).is_file()

    def write(self, record: dict[str, Any]) -> None:
        """Record a finished run."""
        write_json(self.record_file(record["run"]), {"schema_version": SCHEMA, **record})

    def keep_weights(self, run: str, export: Path) -> None:
        """Keep a copy of a tokenizer's weights with the records."""
        write_atomic(self.weights_file(run), export.read_bytes())

    def records(self) -> list[dict[str, Any]]:
        """Return all records, sorted by name; raises UserError where one is damaged or of another schema version."""
        return [self.read(file) for file in sorted((self.path / "records").glob("*.json"))]

    def read(self, file: Path) -> dict[str, Any]:
        """Return one record; raises UserError where it is damaged or of another schema version."""
        record = read_json(file, f"record {file}", AGAIN)
        version = record.get("schema_version")
        if version != SCHEMA:
            raise UserError(f"record {file}: schema version {version!s:.20}, but this vistok reads {SCHEMA}; {AGAIN}")
        with damage_is_a_mistake(f"record {file}", AGAIN):
            _check(record)
        if record["run"] != file.stem:
            raise UserError(
                f"record {file} describes the run {record['run']}, whose record must be named {record['run']}.json: a copy "
                "would count twice; delete it, or rename it back"
            )
        return record


def _check(record: dict[str, Any]) -> None:
    """Raise ValueError or KeyError where a record lacks something that is read later."""
    row, detail = record["row"], record["detail"]
    if not all(isinstance(part, dict) for part in (row, detail, record["config"])):
        raise ValueError("row, detail and config must be objects")
    generator = {"generator": True, "tokenizer": False}[row["kind"]]
    texts = ["run", "choice", "data", "by_position", *(["tokenizer_run", "tokenizer_choice"] if generator else [])]
    values = {"run": record["run"], "directory": record["directory"], **{name: row[name] for name in texts}}
    if wrong := [name for name, value in values.items() if not isinstance(value, str)]:
        raise ValueError(f"{wrong[0]} is not text")
    if row["run"] != record["run"]:
        raise ValueError("its row describes another run")
    if wrong := [name for name, value in row.items() if name in NUMBERS and not _is_number(value)]:
        raise ValueError(f"{wrong[0]} is not a number")
    needed = (*NEEDED, *(OF_GENERATORS if generator else OF_TOKENIZERS))
    if lacking := [name for name in needed if row.get(name) is None]:
        raise ValueError(f"{lacking[0]} is missing")
    positions = [float(value) for value in row["by_position"].split()]
    if type(row["seed"]) is not int or len(positions) not in (0, row["num_tokens"]) or not np.isfinite(positions).all():
        raise ValueError("seed is not an integer, or by_position does not hold one number per token")
    if not extractors(record):
        raise ValueError("no score comes with a protocol")


def _is_number(value: Any) -> bool:
    """Whether a value is a finite number, or None for a missing one."""
    return value is None or (isinstance(value, int | float) and math.isfinite(value))


def extractors(record: dict[str, Any]) -> set[str]:
    """Return the digests of the networks whose features the scores of a record are based on."""
    detail = record["detail"]
    scores = detail["gfmd"].values() if "gfmd" in detail else detail["scores"].values()
    protocols = [score["protocol"] for score in scores if isinstance(score, dict) and "protocol" in score]
    return {protocol["extractor_digest"] for protocol in protocols if protocol["extractor_digest"]}
