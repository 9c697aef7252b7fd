"""Fitted laws, remembered between commands: a law depends on its runs and on the code that fits it, and on nothing else."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import scipy

from vistok.files import user_cache, write_atomic
from vistok.study.findings import fit
from vistok.study.findings.fit import PowerLaw


@contextmanager
def remembered(folder: Path) -> Iterator[None]:
    """Know the laws that earlier commands fitted to a study's runs, and remember those fitted inside the block.

    They lie in the user's cache folder, in a file for each study's folder, and may be deleted at any time.
    """
    place = hashlib.sha256(str(folder.resolve()).encode(errors="surrogateescape")).hexdigest()[:24]
    file, code = user_cache() / "laws" / f"{place}.json", _code()
    known = _read(file, code)
    fit.KNOWN.clear()
    fit.KNOWN.update(known)
    yield
    if known != fit.KNOWN:
        laws = {key: asdict(law) for key, law in fit.KNOWN.items()}
        with suppress(OSError):
            write_atomic(file, json.dumps({"code": code, "laws": laws}).encode())


def _code() -> str:
    """Return a digest of what decides a fit besides its runs."""
    source = Path(fit.__file__).read_bytes()
    return hashlib.sha256(source + f"{np.__version__} {scipy.__version__}".encode()).hexdigest()


def _read(file: Path, code: str) -> dict[str, PowerLaw]:
    """Return the remembered laws; none if the file is missing, damaged, or of other code."""
    try:
        content = json.loads(file.read_text())
        return {key: _law(values) for key, values in content["laws"].items()} if content["code"] == code else {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def _law(values: dict[str, Any]) -> PowerLaw:
    covariance = tuple(tuple(float(value) for value in row) for row in values["covariance"])
    numbers = {name: float(value) for name, value in values.items() if name != "covariance"}
    return PowerLaw(**{**numbers, "n": int(values["n"]), "covariance": covariance})  # type: ignore[arg-type]
