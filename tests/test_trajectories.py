"""What must stay as it is: losses step by step, names of runs, and runs, caches and weights of earlier versions."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from trajectories import make
from vistok.cli import app

RUNS = Path(__file__).parent / "trajectories" / "runs"
TOKENIZER, GENERATOR = "debug-crt-d932756baf", "debug-ar-0efaf1ce56"
EXPECTED = json.loads(make.FILE.read_text())
SAME_MACHINE = EXPECTED["machine"] == make.machine()
EVERY_STEP = [part for setting in make.EVERY_STEP for part in ("--set", setting)]


def vistok(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.slow
def test_losses_weights_tokens_and_names_are_as_they_were(tmp_path, fashion_root):
    found = make.make(tmp_path, ["debug_crt", "debug_ar"], vistok)
    assert make.differences(found, EXPECTED["trajectories"], SAME_MACHINE) == []


@pytest.fixture
def old_runs(tmp_path, monkeypatch, fashion_root) -> Path:
    """Runs that an earlier version made, where they lay then seen from here."""
    shutil.copytree(RUNS, tmp_path / "runs")
    (tmp_path / "data").symlink_to(fashion_root)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def test_runs_of_before_are_found_by_their_names(old_runs):
    again = ["--data", "data", "--runs", "runs", *EVERY_STEP]
    said = vistok("train", "tokenizer", "debug_crt", *again, "--set", "data.max_images=200")
    assert f"was finished already: runs/{TOKENIZER}" in said
    said = vistok("train", "generator", "debug_ar", "--tokenizer", f"runs/{TOKENIZER}", *again)
    assert f"was finished already: runs/{GENERATOR}" in said
    evaluations = old_runs / TOKENIZER / "evaluations"
    before = sorted(evaluations.iterdir())
    assert "rFMD" in vistok("evaluate", "tokenizer", f"runs/{TOKENIZER}", "--data", "data")
    # Read, not made anew under another name; stability has a file of its own.
    assert [file for file in sorted(evaluations.iterdir()) if not file.name.startswith("stability")] == before


def test_checkpoint_of_before_goes_on(old_runs):
    run = old_runs / GENERATOR
    before = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (run / "finished.json").unlink()
    shutil.rmtree(run / "export")
    vistok(
        "train",
        "generator",
        "debug_ar",
        "--tokenizer",
        f"runs/{TOKENIZER}",
        "--data",
        "data",
        "--runs",
        "runs",
        *EVERY_STEP,
    )
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["kind"] == "train"] == list(range(1, 41))
    # Which generation of its CPU made them is not written down, so the last bits may differ.
    old = {(row["kind"], row["step"]): row for row in before}
    again = {(row["kind"], row["step"]): row for row in rows}
    assert old.keys() <= again.keys()
    for place, row in old.items():
        for name in row.keys() & {"generator/loss", "nats_per_token"}:
            assert again[place][name] == pytest.approx(row[name], rel=1e-3)
