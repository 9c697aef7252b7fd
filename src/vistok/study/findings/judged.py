"""Claims and laws of a table, remembered between commands: they depend on table, study and code, and on nothing else."""

import hashlib
import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy

import vistok
from vistok.files import user_cache, write_atomic
from vistok.study.config import StudyConfig
from vistok.study.findings.claim_data import StudyData
from vistok.study.findings.claims import judge
from vistok.study.findings.fit import PowerLaw
from vistok.study.findings.laws import Fit, all_fits
from vistok.study.findings.verdict import Claim


def claims_and_laws(data: StudyData, folder: Path) -> tuple[list[Claim], list[Fit]]:
    """Return the claims and the laws of a study's table; those of an unchanged table are not computed again.

    What is remembered lies in the user's cache folder, one file for each study's folder, and may be deleted at any time.
    """
    place = hashlib.sha256(str(folder.resolve()).encode(errors="surrogateescape")).hexdigest()[:24]
    file, key = user_cache() / "studies" / f"{place}.json", _key(data.study, data.table)
    known = _remembered(file, key)
    if known is not None:
        return known
    claims, laws = judge(data.table, data.study), all_fits(data)
    content = {"key": key, "claims": [claim.as_json() for claim in claims], "laws": [asdict(law) for law in laws]}
    with suppress(OSError):
        write_atomic(file, json.dumps(content).encode())
    return claims, laws


def _key(study: StudyConfig, table: pd.DataFrame) -> str:
    """Return a digest of all that decides claims and laws: the table, the study, the code, and what it computes with."""
    digest = hashlib.sha256(f"{np.__version__} {scipy.__version__} {pd.__version__}\0{study.to_json()}\0".encode())
    for source in sorted((Path(vistok.__file__).parent / "study").rglob("*.py")):
        digest.update(source.read_bytes())
    digest.update(table.to_csv(index=False).encode())
    return digest.hexdigest()


def _remembered(file: Path, key: str) -> tuple[list[Claim], list[Fit]] | None:
    """Return what was computed under this key; None if that was another, or the file is missing or damaged."""
    try:
        content = json.loads(file.read_text())
        if content["key"] != key:
            return None
        return [_claim(values) for values in content["claims"]], [_fit(values) for values in content["laws"]]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _claim(values: dict[str, Any]) -> Claim:
    return Claim(**{**values, "margins": tuple(values["margins"])})


def _fit(values: dict[str, Any]) -> Fit:
    law = values["law"]
    return Fit(**{**values, "law": PowerLaw(**{**law, "unit_covariance": tuple(map(tuple, law["unit_covariance"]))})})
