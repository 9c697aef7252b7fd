"""The demo's page, laid out from the committed numbers of a run; its pictures are stand-ins."""

import json
import math
import statistics
from types import SimpleNamespace

import pytest

from conftest import REPOSITORY
from html_checks import check_page
from vistok.data.config import DataConfig
from vistok.demo import page as demo_page
from vistok.demo.answer import COMPARED, answer, comparison, verdict
from vistok.demo.pictures import Sheet
from vistok.demo.scores import ROWS, TOP, score_table, stage_table
from vistok.recipes import find_recipe

DEMO = REPOSITORY / "results" / "demo" / "short" / "demo.json"
PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="
EVIL = '<img src="//x" onerror="alert(1)">'


@pytest.fixture
def facts():
    return json.loads(DEMO.read_text())


def layout(facts, monkeypatch, names=("T-shirt/top", "Trouser")) -> str:
    """Return the page, with one-pixel pictures whose columns have these names."""
    run = find_recipe("fashion_demo_crt").model_dump(mode="json")
    tokenizer = SimpleNamespace(
        space=SimpleNamespace(layout=SimpleNamespace(kind="grid", sides=(7, 7))), info=SimpleNamespace(run_config=run)
    )
    monkeypatch.setattr(demo_page, "load_tokenizer", lambda path: tokenizer)
    for name in ("reconstructions", "samples", "copies"):
        monkeypatch.setattr(demo_page.pictures, name, lambda *parts: Sheet(PIXEL, tuple(names)))
    return demo_page.render(facts, REPOSITORY, DataConfig(root="data"))


def test_the_answer_a_figure_and_five_rows_come_first(facts, monkeypatch):
    html = layout(facts, monkeypatch)
    check_page(html)
    body = html[html.index("<body>") :]
    assert (
        body.index(facts["answer"].split(" (")[0]) < body.index("<figure") < body.index("<table") < body.index("<nav")
    )
    top = body[: body.index("<nav")]
    assert top.count("<tr>") - 1 == 5 == len(TOP) and top.count("<img") == 2
    off = facts["comparisons"]["gfmd_off"]
    assert f"{off['low']:.2f} to {off['high']:.2f}" in top


def test_nothing_that_was_measured_is_lost(facts, monkeypatch):
    html = layout(facts, monkeypatch)
    rows = score_table(facts).rows
    assert len(rows) >= 15 and all(str(row[1]) in html and str(row[2]) in html for row in rows)
    assert all(str(cell) in html for row in stage_table(facts).rows for cell in row)
    assert {row.path for row in TOP.values()} <= {row.path for row in ROWS} and set(TOP) == set(COMPARED)
    variant = find_recipe("fashion_demo_crt").regularizer("causal").variant
    for text in (facts["provenance"]["commit"], "Copies of training images?", f"<code>{variant}</code>"):
        assert text in html
    assert "tiny demo" not in html and "tiny demo" in layout(facts | {"size": "tiny"}, monkeypatch)


def test_names_of_classes_are_text_over_their_columns(facts, monkeypatch):
    html = layout(facts, monkeypatch, ["T-shirt/top", EVIL])
    check_page(html)
    assert EVIL not in html and html.count("T-shirt/top</span>") == 6


def test_pairs_are_compared_by_ratios_with_an_interval_over_pairs(facts):
    found = comparison(facts["results"], "gfmd_off")
    values = [
        [result[arm]["generator"]["scores"]["off"]["gfmd"]["value"] for arm in ("baseline", "crt")]
        for result in facts["results"]
    ]
    logs = [math.log(crt / baseline) for baseline, crt in values]
    assert found["of"] == "ratio" and found["value"] == pytest.approx(math.exp(statistics.mean(logs)))
    half = 4.302653 * statistics.stdev(logs) / math.sqrt(3)  # Student's t with two degrees of freedom
    assert found["high"] / found["low"] == pytest.approx(math.exp(2 * half))
    assert found == facts["comparisons"]["gfmd_off"]
    one = comparison(facts["results"][:1], "gfmd_off")
    assert one["of"] == "difference" and one["value"] == pytest.approx(values[0][1] - values[0][0])


@pytest.mark.parametrize(
    ("ends", "word"), [((0.5, 0.9), "better"), ((1.1, 1.5), "worse"), ((0.9, 1.1), "do not settle")]
)
def test_the_answer_says_what_the_interval_says(facts, ends, word):
    guided = {"value": sum(ends) / 2, "low": ends[0], "high": ends[1], "of": "ratio"}
    facts["comparisons"]["gfmd_guided"] = guided
    assert word in answer(facts) and f"({ends[0]:.2f} to {ends[1]:.2f})" in answer(facts)
    shifted = {"value": 0.0, "low": ends[0] - 1, "high": ends[1] - 1, "of": "difference"}
    assert verdict(shifted, "better", "worse", "do not settle") == word
