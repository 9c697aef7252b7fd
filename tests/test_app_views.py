"""What the app shows of a picture's latents, of studies and of advice, and how it is opened, without a browser."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from app_process import running_app
from tiny_networks import write_pair
from vistok.app import frontier, study_matrix
from vistok.app.compare_view import comparison_table, protocols
from vistok.app.loopback import is_ours
from vistok.app.pages.advise import answer, between
from vistok.app.pages.reconstruct import Edited
from vistok.app.place import Place
from vistok.app.reconstruction import keep, mean_maps, with_token
from vistok.app.reconstruction_view import reconstructions, token_grid
from vistok.app.serve import opened
from vistok.cli import app
from vistok.errors import UserError
from vistok.metrics.interval import Replicates
from vistok.metrics.protocol import Protocol, Score, Treatment
from vistok.runs.load import load_tokenizer
from vistok.study.findings.advise import advise
from vistok.study.run.record import StudyFolder
from vistok.study.run.standing import Cell, Standing, read_standing
from vistok.verbs.compare import compare_scores
from vistok.verbs.reconstruct import reconstruct_files

RESULTS = Path(__file__).resolve().parent.parent / "results"


@pytest.fixture
def picture(tmp_path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


# Reconstructions


def test_a_reconstruction_is_that_of_the_command(picture, tmp_path):
    path, _ = write_pair(tmp_path)
    kept = keep("tiny", picture, load_tokenizer(path))
    assert kept.psnr == pytest.approx(reconstruct_files([picture], path, tmp_path / "r.png")[0][0][0])
    off = kept.difference()
    assert off.dtype == torch.uint8 and int(off.max()) == min(
        255, 4 * int((kept.fake.int() - kept.real.int()).abs().max())
    )
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError, match="cannot be read"):
        keep("tiny", tmp_path / "text.png", load_tokenizer(path))


def test_a_token_changes_its_own_part_of_the_picture(picture, tmp_path):
    path, _ = write_pair(tmp_path)
    tokenizer = load_tokenizer(path)
    first = keep("tiny", picture, tokenizer)
    other = (int(first.latents[0, 0]) + 1) % 8
    edited = Edited(first).at(0).put(other, tokenizer)
    assert int(edited.kept.latents[0, 0]) == other and torch.equal(edited.kept.latents[0, 1:], first.latents[0, 1:])
    change = (edited.kept.fake.int() - first.fake.int()).abs()[0, 0]
    assert int(change[:2, :2].max()) > 0 and torch.equal(Edited(edited.first).kept.fake, first.fake)
    grid, words, token, _ = edited.shown()
    assert token == other and f"Token {other} of 8 at row 1, column 1. PSNR" in words and "with 1 changed" in words
    assert grid.count("data-token") == 16 and grid.count('class="changed"') == grid.count('aria-pressed="true"') == 1
    with pytest.raises(UserError, match="token 8: tiny has the tokens 0 to 7"):
        with_token(first, 0, 8, tokenizer)
    with pytest.raises(UserError, match="click on a token"):
        Edited(first).put(1, tokenizer)


def test_vectors_have_maps_instead_of_tokens(picture, tmp_path):
    path, _ = write_pair(tmp_path)
    kept = keep("tiny", picture, load_tokenizer(path))
    assert "no tokens" not in reconstructions([kept]) and 'data-token="15"' in token_grid(kept, kept.latents, None)
    from vistok.app.reconstruction import Kept
    from vistok.space import Vectors, grid

    means = torch.zeros(1, 16, 3)
    means[0, 5, 1] = 2.0
    vectors = Kept("kl", kept.real, kept.fake, 20.0, means, Vectors(layout=grid(4, 4), dim=3))
    maps = mean_maps(vectors)
    assert len(maps) == 4 and maps[0].shape == (1, 1, 4, 4)
    assert int(maps[2][0, 0, 1, 1]) == 255 and int(maps[2].sum()) == 255 and int(maps[1].sum()) == 0
    assert "writes vectors and has no tokens to change" in reconstructions([vectors])


# Scores


def scores(shift: float, samples: int = 100, guidance: float = 1.0) -> list[Score]:
    """Two scores of a run: a distance, of which less is better, and one with no direction."""
    found = []
    for metric in ("gFMD", "entropy of tokens (bits)"):
        of = Protocol(
            metric=metric, extractor="net", reference="photos test", reference_digest="d", num_reference=50,
            num_samples=samples, estimator="e",
        )  # fmt: skip
        left_out = tuple(5 + shift + 0.01 * i for i in range(20))
        treatment = Treatment(sampling={"kind": "autoregressive", "guidance_scale": guidance})
        found.append(Score.of(Replicates(5.0 + shift, left_out), of, treatment))
    return found


def test_runs_are_compared_by_one_protocol_at_a_time():
    found = compare_scores(
        {"a": scores(0), "b": scores(-2, guidance=2.0), "c": scores(0.5) + scores(0, 80), "d": scores(1, 80)}
    )
    first, second = protocols(found)
    assert (first, second) == ("100 images against 50 of photos test", "80 images against 50 of photos test")
    html = comparison_table(found, ["<a>", "b", "c", "d"], first)
    assert "&lt;a&gt;" in html and "<a>" not in html and ">d<" not in html
    assert html.count("<b>") == 1 and "<b>3.0000</b>" in html  # the entropies have no better one
    assert "-2.0000 (" in html and "guidance 2" in html and "Bold is better: its paired difference" in html
    assert "<b>" not in html.split("-2.0000 (")[1] and ">d<" in comparison_table(found, list("abcd"), second)


# Studies


def cells():
    kinds = [("a", "", 0), ("a", "s", 100), ("a", "s", 200), ("b", "", 0)]
    return [Cell(f"{t}{g}{n}-{seed}", t, g, n, seed, "waiting") for t, g, n in kinds for seed in (0, 1)]


def test_a_study_stands_where_its_scheduler_and_its_records_say(tmp_path):
    place, results = tmp_path / "runs" / "study", tmp_path / "results" / "study"
    standing = Standing([], place, results)
    standing.cells = cells()
    assert read_standing(place) is None
    with standing.open():
        standing.note({"a0-0": "running", "as100-0": "failed"})
        found, where, alive = read_standing(place)
        assert alive and where == results.resolve() and found[0].state == "running"
        html = study_matrix.matrix(found, alive)
        assert "8 runs: 1 running, 1 failed, 6 waiting. It runs now." in html
        assert 'class="state running" title="a0-0: running">0<' in html and 'class="answer bad"' in html
        assert html.count("<th") == 4 and "s, 100 steps" in html
    found, _, alive = read_standing(place)  # stopped: what ran will begin again
    assert not alive and {cell.state for cell in found} == {"waiting", "failed"}
    folder = StudyFolder(results)
    folder.record_file("a0-0").parent.mkdir(parents=True)
    folder.record_file("a0-0").write_text("{}")
    found, alive = study_matrix.cells_of(place, results)
    assert found[0].state == "done" and study_matrix.known_studies(tmp_path / "runs", tmp_path / "results") == {
        "study": (place, results.resolve())
    }


def test_a_finished_study_is_read_from_its_records():
    found, alive = study_matrix.cells_of(None, RESULTS / "openmoji")
    rows = pd.read_csv(RESULTS / "openmoji" / "runs.csv")
    assert not alive and len(found) == len(rows) and {cell.state for cell in found} == {"done"}
    assert {cell.tokenizer for cell in found} == set(rows.tokenizer_choice)
    assert study_matrix.known_studies(RESULTS / "none", RESULTS).keys() >= {str(RESULTS / "fashion")}


def test_looking_on_never_stops_a_study(tmp_path):
    (tmp_path / "study").write_text("a file where the folder should be")
    standing = Standing([], tmp_path / "study", tmp_path)
    with standing.open():
        standing.note({"a": "running"})


# Advice


@pytest.fixture(scope="module")
def fashion() -> frontier.Findings:
    return frontier.findings(str(RESULTS / "fashion"), "fashion_mnist")


def test_advice_is_that_of_the_command(fashion):
    budget = between(fashion.low, fashion.high, 0.3)
    expected = advise(fashion.table, budget)
    assert frontier.advice_of(fashion, budget, None) == expected
    html = unescape(answer(str(RESULTS / "fashion"), "fashion_mnist", 0.3, 1.0, None))
    assert f"{budget:.3g} FLOPs for both stages" in html and "GFLOP/s of the study's runs" in html
    assert f"Expected gFMD: {expected.best.gfmd:.2f}" in html and "An image takes" in html
    assert (
        between(2, 8, 0) == pytest.approx(2)
        and between(2, 8, 1) == pytest.approx(8)
        and between(2, 8, 0.5) == pytest.approx(4)
    )


def test_advice_needs_no_results_of_ones_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert frontier.known_studies(["results/openmoji", "results/fashion"])[:2] == [
        "results/fashion",
        "results/openmoji",
    ]
    (first, *_) = frontier.known_studies([])
    (data,) = frontier.data_sets(first)
    html = unescape(answer(first, data, 0.3, 1.0, None))
    assert "Expected gFMD: " in html and "vistok train tokenizer" in html and "vistok train generator" in html


def test_the_frontier_passes_through_what_is_advised(fashion):
    budget = between(fashion.low, fashion.high, 0.3)
    chart = frontier.frontier_chart(fashion.curves, budget)
    best = frontier.advice_of(fashion, budget, None).best
    mark = chart.series[-1]
    assert (mark.xs, mark.ys, mark.low, mark.high) == ([budget], [best.gfmd], [best.low], [best.high])
    band = chart.series[0]
    assert len(band.xs) == frontier.POINTS and all(
        low <= y <= high for low, y, high in zip(band.low, band.ys, band.high, strict=True)
    )
    assert best.tokenizer["tokenizer_choice"] in mark.texts[0] and f"gFMD {best.gfmd:.2f}" in mark.texts[0]


def test_a_limit_on_milliseconds_leaves_out_what_is_slower(fashion):
    table = fashion.table.copy()
    generators = table.kind == "generator"
    table.loc[generators, "ms_per_image"] = table.choice[generators].map({"s": 5.0, "m": 10.0, "l": 20.0})
    table.loc[generators & (table.tokenizer_choice == "none"), "ms_per_image"] = np.nan
    timed = frontier.Findings(replace(fashion.source, table=table), fashion.curves, fashion.low, fashion.high)
    assert timed.milliseconds == (5, 20)
    assert {curve.generator for curve in timed.within(12).kept} == {"s", "m"}
    assert "none" not in {curve.setting["tokenizer_choice"] for curve in timed.within(30).kept}
    advice = frontier.advice_of(timed, between(timed.low, timed.high, 0.8), 6)
    assert advice.best.generator == "s"
    lines = " ".join(frontier.lines_of(timed, advice, None, 6))
    assert "An image takes 5 ms" in lines and "is not recorded are left out" in lines and " here)" not in lines
    with pytest.raises(UserError, match="the cheapest that was measured is s on .*, with 5 ms"):
        timed.within(4)


# Opening the app


def test_the_app_names_what_is_missing(monkeypatch):
    monkeypatch.setattr("vistok.cli.in_browser.find_spec", lambda name: None)
    done = CliRunner().invoke(app, ["app"])
    assert isinstance(done.exception, UserError)
    assert str(done.exception) == "vistok app needs Gradio, which is not installed: pip install 'vistok[app]'"


def test_only_this_machine_is_answered():
    ours = [
        {b"host": b"127.0.0.1:7860"},
        {b"host": b"localhost:1", b"origin": b"http://localhost:1"},
        {b"host": b"[::1]:7860"},
    ]
    foreign = [
        {}, {b"host": b"192.168.1.2:7860"}, {b"host": b"evil.example"}, {b"host": b"127.0.0.1.evil.example"},
        {b"host": b"127.0.0.1:1", b"origin": b"http://evil.example"}, {b"host": b"127.0.0.1:1", b"origin": b"null"},
        {b"host": b"[::1"},
    ]  # fmt: skip
    assert all(map(is_ours, ours)) and not any(map(is_ours, foreign))


@pytest.mark.slow
def test_looking_at_runs_loads_no_torch(tmp_path):
    code = (
        "import sys, warnings\nfrom pathlib import Path\n"
        "from vistok.app.place import Place\nfrom vistok.app.queue import Queue\nfrom vistok.app.window import window\n"
        f"place = Place(Path({str(tmp_path)!r}), Path('results'))\nwindow(place, Queue(place.runs))\n"
        "print([name for name in ('torch', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def status(address: str, **headers: str) -> int:
    request = urllib.request.Request(address, headers=headers)
    try:
        with urllib.request.urlopen(request) as answered:
            return int(answered.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.slow
def test_it_serves_its_page_and_no_file(tmp_path):
    (tmp_path / "secret.txt").write_text("x")
    with running_app(tmp_path) as address:
        assert status(address) == 200 and status(address, Origin="http://evil.example") == 403
        queue = tmp_path / "runs" / "app-queue" / "queue.json"
        for file in (tmp_path / "secret.txt", "/etc/passwd", "secret.txt", queue):
            assert status(f"{address}gradio_api/file={file}") == 403
        with urllib.request.urlopen(f"{address}config") as answered:
            config = json.loads(answered.read())
        assert config["analytics_enabled"] is False
        assert not [font for font in config["stylesheets"] or [] if "://" in font]
        assert len(list((tmp_path / "tmp").glob("vistok-app-*"))) == 1
        with (
            pytest.raises(UserError, match="another vistok app works on the runs in"),
            opened(Place(tmp_path / "runs", tmp_path)),
        ):
            pass
