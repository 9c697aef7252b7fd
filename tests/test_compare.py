"""Scores of several runs side by side: what stands in a row, which one is better, what is said of the rest."""

import csv
import io
import json
import subprocess
import sys

import pytest

from vistok.errors import UserError
from vistok.metrics.interval import Replicates
from vistok.metrics.protocol import Protocol, Score, Treatment
from vistok.verbs.compare import compare_scores, comparison

IMAGES = {
    "reference": "folder test",
    "reference_digest": "d",
    "num_reference": 100,
    "num_samples": 100,
    "estimator": "e",
}
FMD = {"extractor": "classifier", "extractor_digest": "c", "estimator": "f"}


def score(metric, value, spread=0.01, guidance=None, weights="ema", **other):
    """A score whose replicates alternate around its value, so that paired differences of equal spread have no width."""
    protocol = Protocol(metric=metric, **{**IMAGES, **(FMD if "FMD" in metric else {}), **other})
    sampling = None if guidance is None else {"kind": "autoregressive", "guidance_scale": guidance}
    left_out = tuple(value + spread * (-1) ** i for i in range(20)) if spread is not None else ()
    return Score.of(Replicates(value, left_out), protocol, Treatment(weights=weights, sampling=sampling))


def test_the_better_one_is_marked_only_where_the_interval_says_so():
    found = compare_scores({
        "runs/one": [score("PSNR (dB)", 20.0), score("rFMD", 5.0), score("SSIM", 0.5), score("entropy of tokens (bits)", 3.0)],
        "runs/two": [score("PSNR (dB)", 21.0), score("rFMD", 4.0), score("SSIM", 0.6, None), score("entropy of tokens (bits)", 4.0)],
        "runs/three": [score("PSNR (dB)", 19.0), score("rFMD", 4.1, 0.2)],
    })  # fmt: skip
    rows = {row.metric: row for row in found.rows}
    assert rows["PSNR (dB)"].better == 1  # more is better
    assert rows["rFMD"].better is None  # two is nearest to 0, but three may be as good
    assert rows["SSIM"].better is None  # too few images for an interval
    assert rows["entropy of tokens (bits)"].better is None  # neither more nor less is better
    first, second, third = rows["PSNR (dB)"].differences
    assert first is None and second.value == 1 and second.low == pytest.approx(1) and third.value == -1
    assert rows["SSIM"].scores[2] is None and rows["SSIM"].differences[2] is None
    two = compare_scores({"a": [score("rFMD", 5.0)], "b": [score("rFMD", 4.0)]})
    assert two.rows[0].better == 1  # less is better


def test_rows_say_by_what_their_runs_differ():
    found = compare_scores({
        "x": [score("gFMD", 5.0, guidance=1.5), score("gFMD", 5.5, guidance=1.0)],
        "y": [score("gFMD", 4.0, guidance=2.0), score("gFMD", 4.5, guidance=1.0), score("gFMD", 4.4, guidance=1.0, weights="raw")],
        "z": [score("gFMD", 3.0, guidance=3.0)],
    })  # fmt: skip
    assert [row.treatment for row in found.rows] == [
        "A, B: ema weights, guidance 1; C: ema weights, guidance 3",
        "A: ema weights, guidance 1.5; B: ema weights, guidance 2",
    ]
    assert [row.scores[2] and row.scores[2].value for row in found.rows] == [3.0, None]


def test_scores_of_other_protocols_never_share_a_row():
    found = compare_scores({
        "x": [score("rFMD", 5.0), score("PSNR (dB)", 20.0)],
        "y": [score("rFMD", 4.0), score("PSNR (dB)", 20.0)],
        "z": [score("rFMD", 1.0, extractor="other", extractor_digest="o"), score("PSNR (dB)", 9.0, num_samples=7), score("SSIM", 1.0)],
        "u": [score("rFMD", 2.0, extractor="other", extractor_digest="o")],
    })  # fmt: skip
    fmd = [row for row in found.rows if row.metric == "rFMD"]
    assert [row.label for row in fmd] == ["rFMD (classifier)", "rFMD (other)"]
    assert [[cell and cell.value for cell in row.scores] for row in fmd] == [
        [5.0, 4.0, None, None],
        [None, None, 1.0, 2.0],
    ]
    assert found.notes == ("not compared: PSNR (dB) of C and A: 7 images, not 100",)
    with pytest.raises(UserError) as error:
        compare_scores({
            "x": [score("rFMD", 5.0), score("rKMD", 5.0, extractor="classifier", extractor_digest="c")],
            "y": [score("rFMD", 5.0, extractor_digest="2"), score("rKMD", 1.0, extractor="classifier", extractor_digest="2")],
        })  # fmt: skip
    assert "rFMD, rKMD of B and A: another evaluator classifier" in str(error.value)  # once, for both
    with pytest.raises(UserError, match="they share no kind of score"):
        compare_scores({"x": [score("rFMD", 5.0)], "y": [score("PSNR (dB)", 5.0)]})


NAMES = ["runs/" + "a-very-long-name-of-a-run-" * 3 + "1", "runs/" + "a-very-long-name-of-a-run-" * 3 + "2", "runs/c"]


@pytest.mark.parametrize("width", [None, 60, 100])
def test_text_never_cuts_a_name_or_a_number(width):
    found = compare_scores(
        {name: [score("PSNR (dB)", 20.0 + i), score("rFMD", 123.4 - i)] for i, name in enumerate(NAMES)}
    )
    lines = found.lines(width)
    assert lines[:3] == [f"{letter} = {name}" for letter, name in zip("ABC", NAMES, strict=True)]
    text = "\n".join(lines)
    for cell in ("20.000 ± ", "* 22.000 ± ", "* 121.40 ± ", "+2.000 (+2.000 to +2.000)", "-1.00 (-1.00 to -1.00)"):
        assert cell in text
    assert "100 images of folder test; ema weights" in lines
    if width is not None:
        assert all(len(line) <= width for line in lines[4:] if line.startswith("  "))


def test_json_and_csv_hold_every_score():
    found = compare_scores(
        {name: [score("PSNR (dB)", 20.0 + i), score("rFMD", 5.0 - i)] for i, name in enumerate(NAMES)}
    )
    content = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert content["runs"] == NAMES and [row["better"] for row in content["rows"]] == [2, 2]
    assert content["rows"][0]["scores"][1]["value"] == 21.0 and content["rows"][0]["differences"][0] is None
    assert content["rows"][1]["protocol"]["extractor"] == "classifier"
    lines = list(csv.DictReader(io.StringIO(found.as_csv())))
    assert [(line["run"], line["metric"], float(line["value"]), line["better"]) for line in lines[:3]] == [
        (NAMES[0], "PSNR (dB)", 20.0, "0"), (NAMES[1], "PSNR (dB)", 21.0, "0"), (NAMES[2], "PSNR (dB)", 22.0, "1"),
    ]  # fmt: skip
    assert float(lines[2]["difference_low"]) == pytest.approx(2) and lines[0]["difference"] == ""


def test_kinds_are_called_by_their_names(tmp_path):
    for name, kind in (
        ("t", "tokenizer"),
        ("u", "tokenizer"),
        ("g", "generator"),
        ("c", "classifier"),
        ("d", "classifier"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"schema_version": 1, "kind": kind}))
    with pytest.raises(UserError, match=r"/t, \S+/u are tokenizers; \S+/g is a generator; compare runs of one kind"):
        comparison([tmp_path / name for name in "tug"])
    with pytest.raises(UserError, match="classifiers, which score others"):
        comparison([tmp_path / name for name in "cd"])


def test_comparing_needs_no_torch():
    code = "import vistok.verbs.compare, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
