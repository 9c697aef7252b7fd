"""Two runs' scores side by side, where their protocols allow it."""

import json
from pathlib import Path
from typing import Any

from vistok.engine.run_dir import RunDir
from vistok.errors import UserError
from vistok.metrics.protocol import Protocol, require_same

SCORE_NAMES = {"rfmd": "rFMD", "rfid": "rFID", "gfmd": "gFMD", "gfid": "gFID"}
PLAIN_NAMES = ("psnr", "ssim", "position_entropy_mean", "precision", "recall")


def evaluations(run: Path) -> list[dict[str, Any]]:
    """Return all evaluations of a run; raises UserError where there are none."""
    RunDir(run).read_config()
    files = sorted((run / "evaluations").glob("*.json"))
    found = [json.loads(file.read_text()) for file in files if not file.name.startswith("guidance")]
    if not found:
        raise UserError(f"run {run} has no scores yet; make them with vistok evaluate")
    return found


def compare_runs(first: Path, second: Path) -> list[str]:
    """Return lines that set every pair of scores with the same treatment side by side.

    Raises UserError where the two have no scores of one kind, or protocols differ.
    """
    rows, seen = [], False
    for a in evaluations(first):
        for b in evaluations(second):
            if a["kind"] != b["kind"] or treatment(a) != treatment(b) or a.get("split") != b.get("split"):
                continue
            seen = True
            rows += _pair(a, b)
    if not seen:
        raise UserError(
            f"{first} and {second} have no scores of the same kind and treatment; evaluate both in the same way"
        )
    return [f"{'':<44}{first.name:>28}{second.name:>28}  second - first", *rows]


def treatment(scores: dict[str, Any]) -> dict[str, Any]:
    """Return how the scored images were made."""
    for key in SCORE_NAMES:
        if key in scores:
            return dict(scores[key]["treatment"])
    return dict(scores["treatment"])


def _pair(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    guidance = treatment(a)["guidance_scale"]
    how = treatment(a)["weights"] + (f", guidance {guidance:g}" if guidance is not None else "")
    lines = []
    for key, name in SCORE_NAMES.items():
        if key in a and key in b:
            require_same(Protocol(**a[key]["protocol"]), Protocol(**b[key]["protocol"]))
            lines.append(_line(f"{name} ({how})", a[key]["value"], b[key]["value"]))
    for name in PLAIN_NAMES:
        if name in a and name in b:
            lines.append(_line(f"{name} ({how})", a[name], b[name]))
    return lines


def _line(name: str, a: float, b: float) -> str:
    return f"{name:<44}{a:>28.4f}{b:>28.4f}  {b - a:+.4f}"
