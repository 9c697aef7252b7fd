"""A study's page and its answer, on tables whose truth is known; nothing from a user's names gets into its markup."""

import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from conftest import REPOSITORY
from html_checks import check_page
from test_claims_tokens import STUDY as TOKENS
from test_claims_tokens import table as tokens_table
from test_claims_vectors import STUDY as VECTORS
from test_claims_vectors import table as vectors_table
from test_study_fits import make_study, make_table
from vistok.recipes import find_recipe
from vistok.study.config import Choice
from vistok.study.findings import judged
from vistok.study.findings.answer import _by_the_second as by_the_second
from vistok.study.findings.answer import answer, multiplicity
from vistok.study.findings.arms import Arms
from vistok.study.findings.by_scale import with_fewer_steps
from vistok.study.findings.claim_data import StudyData, by_family
from vistok.study.findings.claims import judge
from vistok.study.findings.effects import effect, effects_by_cell, lower_by
from vistok.study.findings.families import _colours as family_colours
from vistok.study.findings.figures import position_gains
from vistok.study.findings.laws import all_fits, main_grids, main_runs
from vistok.study.findings.page import Findings, study_page
from vistok.study.findings.purses_figure import by_purse
from vistok.study.findings.samples import class_names
from vistok.study.findings.scored_by import ScoredBy
from vistok.study.findings.table import edge_sentence, read_table
from vistok.study.findings.tables import top_table
from vistok.study.findings.verdict import HOLDS, OPEN
from vistok.study.run.record import StudyFolder

BY = ScoredBy("gFMD", "toy_evaluator", "a" * 64, "toy test")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def found_in(table, study, fits=False) -> Findings:
    table = table.assign(alarms="", by_position=table.by_position.fillna(""))
    data = StudyData(table, study)
    rows, claims = main_runs(data), judge(table, study)
    arms = Arms(data, rows)
    laws = all_fits(data) if fits else []
    return Findings(data, rows, arms, BY, claims, laws, answer(arms, rows, claims, BY), "")


def page_of(table, study, tmp_path, fits=False) -> str:
    return study_page(StudyFolder(tmp_path), found_in(table, study, fits))


def test_the_answer_comes_first_and_all_else_is_folded(rng, tmp_path):
    html = page_of(make_table(rng), make_study(), tmp_path, fits=True)
    page = check_page(html)
    body = html[html.index("<body>") :]
    assert (
        body.index('class="answer"')
        < body.index("<svg")
        < body.index("<table")
        < body.index("<nav")
        < body.index("<details")
    )
    assert body.index('id="claims"') > body.index('id="tokenizers"')
    top = body[: body.index("<nav")]
    assert top.count("<tr>") - 1 <= 5 and top.count("<figure>") == 1
    labels = {cell.get("data-label") for cell in page.all("td")}
    assert {"tokenizer", "gFMD", "verdict", "interval"} <= labels and None not in labels


def test_every_claim_has_its_unit_its_interval_and_its_verdict_in_words(rng, tmp_path):
    table, study = make_table(rng), make_study()
    claims = judge(table, study)
    assert all(claim.quantity and claim.unit for claim in claims if claim.effect is not None)
    html = page_of(table, study, tmp_path)
    shown = html[html.index('id="claims"') : html.index('id="provenance"')]
    assert shown.count('class="chart interval"') == sum(claim.effect is not None for claim in claims)
    for verdict, sign in (("holds", "✓"), ("fails", "✗"), ("open", "?")):
        count = sum(claim.verdict == verdict for claim in claims)
        assert len(re.findall(rf">{re.escape(sign)}</span> {verdict}<", shown)) == count
    assert shown.count("<summary>rule</summary>") == len(
        {(c.claim.split()[0], c.statement, c.rule) for c in claims if c.rule}
    )
    assert f"{len(claims)} claims were looked at" in shown


@pytest.mark.parametrize("name", ["fashion", "openmoji"])
def test_the_committed_claims_have_units(name):
    claims = json.loads((REPOSITORY / "results" / name / "claims.json").read_text())
    assert not [claim["claim"] for claim in claims if claim["effect"] is not None and not claim["unit"]]


def test_an_answer_of_what_is_settled(rng):
    compute, cells, limits = found_in(make_table(rng), make_study()).answer
    assert re.match(
        r"For equal gFMD l2_pre at weight 4 needs [12]\.\d\d times less of the generator's compute than no reg", compute
    )
    assert re.search(r"gFMD is \d+ % lower \(\d+ to \d+ %\) with l2_pre at weight 4 than with no regularizer", cells)
    assert "15 cells" in cells and "3 tokenizer seeds" in cells and "not a claim fixed beforehand" in cells
    assert "toy_evaluator: it is not FID" in limits and re.match(r"Of \d+ claims, \d+ hold", limits)


def test_an_answer_says_how_many_seeds_each_arm_has(rng):
    first, again = make_table(rng, seeds=range(4)), make_table(rng, seeds=range(2)).query("crt_weight > 0")
    names = ["run", "choice", "tokenizer_run", "tokenizer_choice"]
    again[names] = again[names].replace("crt", "other", regex=True)
    study = make_study()
    (main,) = study.grids
    main = main.replace(tokenizers=(*main.tokenizers, Choice(name="other")), seeds=tuple(range(4)))
    _, cells, _ = found_in(pd.concat([first, again], ignore_index=True), study.replace(grids=(main,))).answer
    assert "95 % over 4 and 2 tokenizer seeds" in cells


def test_an_answer_says_where_the_second_evaluator_finds_otherwise():
    arms = {"none": "no regularizer", "a": "form a", "b": "form b", "c": "form c"}

    def claim(name, verdict):
        return SimpleNamespace(
            claim=name, verdict=verdict, effect=1.3, low=1.1, high=1.5, confidence=0.95, n=5, note="", rule=""
        )

    first = [claim("E1.chosen a", OPEN), claim("E1.chosen b", HOLDS), claim("E1.chosen c", HOLDS)]
    second = [claim("E4.second a", HOLDS), claim("E4.second b", OPEN), claim("E4.second c", HOLDS)]
    assert by_the_second(arms, [*first, *second], first) == (
        "; by the second evaluator form a needs 1.30 times less (1.10 to 1.50); by the second evaluator that is open for form b"
    )
    assert by_the_second(arms, first, first) == ""


def test_an_answer_of_what_costs_more(rng):
    compute, cells, _ = found_in(make_table(rng, speed_up=0.5), make_study()).answer
    assert re.search(r"needs [12]\.\d\d times more of the generator's compute", compute)
    ends = [float(value) for value in re.search(r"needs (\S+) times more .*\((\S+) to (\S+)\)", compute).groups()]
    assert ends[1] < ends[0] < ends[2] and "% higher" in cells


def test_an_answer_of_one_cell_names_it():
    (sentence,) = [said for said in found_in(vectors_table(), VECTORS).answer if "cell" in said]
    assert sentence.startswith("In the main grid's only cell (generator flow, 8 TFLOPs), gFMD is ")


def test_an_answer_where_nothing_is_settled(rng):
    compute, cells, _ = found_in(make_table(rng, speed_up=1.0, noise=0.3), make_study()).answer
    assert compute.startswith("It is open whether any tokenizer saves the generator's compute")
    assert "is not settled" in cells and re.search(r"\d+ % (lower|higher) to \d+ % (lower|higher)", cells)


def test_an_answer_of_one_seed_settles_nothing(rng, tmp_path):
    table = make_table(rng, seeds=(0,))
    found = found_in(table, make_study())
    assert found.answer[0].startswith("It is open") and "(one seed)" in found.answer[0]
    assert "one tokenizer seed: another may differ by more" in found.answer[1] and "95 %" not in found.answer[1]
    assert "over more than one seed" in multiplicity([claim for claim in found.claims if claim.n == 1])
    check_page(page_of(table, make_study(), tmp_path))


def test_an_answer_of_other_images_that_point_the_other_way(rng):
    table = make_table(rng)
    worse = (table.kind == "generator") & (table.tokenizer_choice == "crt")
    table.loc[worse, "gfmd_val"] = 3 * table.gfmd[worse]
    first, second, _ = found_in(table, make_study()).answer
    words = "against held-out training images gFMD is 138 % higher with l2_pre"
    assert f"But that is by the test images alone; {words}" in first and words not in second
    # Where compute is open, nothing stands there to be doubted.
    unsettled = make_table(rng, speed_up=1.0, noise=0.3)
    worse = (unsettled.kind == "generator") & (unsettled.tokenizer_choice == "crt")
    lower = (
        np.log(unsettled.gfmd[worse]).mean() < np.log(unsettled.gfmd[~worse & (unsettled.kind == "generator")]).mean()
    )
    unsettled.loc[worse, "gfmd_val"] = (3.0 if lower else 0.3) * unsettled.gfmd[worse]
    first, second, _ = found_in(unsettled, make_study()).answer
    assert "held-out" not in first and "; against held-out training images gFMD is" in second


def test_grids_that_have_other_tokenizers_alone_are_shown_with_the_main_one(rng, tmp_path):
    """As of an arm that is judged by itself, on the same seeds, generators and lengths."""
    table = make_table(rng)
    third = table[table.tokenizer_choice == "crt"].replace(
        {"tokenizer_choice": {"crt": "third"}, "choice": {"crt": "third"}}
    )
    third = third.assign(run=third.run + "-third", tokenizer_run=third.tokenizer_run + "-third", crt_weight=2.0)
    table, study = pd.concat([table, third], ignore_index=True), make_study()
    (main,) = study.grids
    renamed = tuple(choice.replace(name="third") if choice.name == "crt" else choice for choice in main.tokenizers)
    beside = main.replace(name="beside", tokenizers=renamed)
    both = study.replace(grids=(main, beside))
    assert [grid.name for grid in main_grids(StudyData(table, both))] == ["main", "beside"]
    assert set(main_runs(StudyData(table, both)).tokenizer_choice) == {"none", "crt", "third"}
    assert main_runs(StudyData(table, both)).run.is_unique
    assert "Grid: beside" not in page_of(table, both, tmp_path)
    fewer = study.replace(grids=(main, beside.replace(seeds=(0, 1))))
    assert set(main_runs(StudyData(table, fewer)).tokenizer_choice) == {"none", "crt"}
    assert "Grid: beside" in page_of(table, fewer, tmp_path)


def test_a_study_of_tokenizers_alone_and_one_of_a_single_tokenizer(rng, tmp_path):
    table = make_table(rng)
    alone = page_of(table[table.kind == "tokenizer"], make_study(), tmp_path)
    check_page(alone)
    assert "There are no generators yet" in alone
    single = page_of(table[table.tokenizer_choice == "none"], make_study(), tmp_path)
    check_page(single)
    assert "There is nothing to compare with" in single


def test_a_study_of_vectors_has_no_entropies_and_no_nats(tmp_path):
    html = page_of(vectors_table(), VECTORS, tmp_path)
    page = check_page(html)
    assert not {"nats"} & {attrs.get("id") for _, attrs in page.tags}
    assert "kl-16-aligned" in html and not re.search(r"\bnan\b", re.sub(r"data:image/[^\"]*", "", html), re.IGNORECASE)


def test_tokenizers_with_other_steps_for_a_budget_are_compared_by_it_and_each_family_alone(tmp_path):
    """A line's generator makes more steps for its FLOPs than a grid's; the page must set them side by side none the less."""
    found = found_in(tokens_table(), TOKENS)
    written, filled, _ = found.answer
    assert written.startswith("With autoregressive generators, in the mean over 2 cells")
    assert filled.startswith("With masked generators")
    for sentence in (written, filled):
        percent = int(re.search(r"gFMD is (\d+) % higher .* with clusters than with grid", sentence)[1])
        assert "not a claim" not in sentence  # T3 and T6 say it
        assert 37 <= percent <= 44 and "with line-16 that is not settled" in sentence
    top = top_table(found.data.tokenizers, found.rows, found.arms, found.claims)
    assert [name for name in top.head if name.startswith("gFMD")] == ["gFMD (ar, 6 TFLOPs)", "gFMD (masked, 6 TFLOPs)"]
    assert len(top.rows) == 3 and all(row[2] and row[4] for row in top.rows)
    html = study_page(StudyFolder(tmp_path), found)
    check_page(html)
    side_by_side = html[html.index('id="families"') : html.index('id="generation"')]
    # A purse whose costs the table lacks is left out; then one chart for each family.
    assert side_by_side.count('<svg class="chart"') == 1 + 2 and "milliseconds an image" in side_by_side
    assert all(name in side_by_side for name in ("grid", "line-4", "line-32", "clusters", "line-16-causal"))
    assert "T1: 4, 8, 16 and 32 tokens in a line" in html


def test_generators_of_one_tokenizer_are_set_beside_the_first(tmp_path):
    """The ladder's switches stood among the claims only: a grid of one tokenizer had no figure."""
    html = page_of(vectors_table(), VECTORS, tmp_path)
    check_page(html)
    section = html[html.index('id="sweep-ladder"') :].split('id="sweep-')[1]
    assert section.count('<svg class="chart"') == 2 and "as a multiple of that of flow: chosen guidance" in section
    told = {name: float(times) for name, times in re.findall(r"([a-z-]+): ([0-9.]+) times the gFMD of flow", section)}
    ladder = next(grid for grid in VECTORS.grids if grid.name == "ladder")
    assert list(told) == [choice.name for choice in ladder.generators[1:]]
    rows = StudyData(vectors_table(), VECTORS).runs(ladder)
    logs = rows.assign(log=np.log(rows.gfmd.astype(float))).groupby("choice").log.mean()
    assert told["dit"] == pytest.approx(np.exp(logs["dit"] - logs["flow"]), abs=0.006)


def test_both_purses_are_drawn_with_both_families_in_each():
    rows = StudyData(vectors_table(noise=0), VECTORS).all_runs()
    arms = found_in(vectors_table(noise=0), VECTORS).arms
    training, image = by_purse(rows, arms)
    for chart, column, priced in ((training, "total_flops", rows), (image, "flops_per_image", with_fewer_steps(rows))):
        lines = {series.label: series for series in chart.series if series.label}
        assert set(lines) == {"flow", "autoregressive"}
        for family, line in lines.items():
            pairs = priced[priced.family == family].groupby(["tokenizer_choice", "choice", "length"])
            costs, scores = (
                pairs[column].mean(),
                np.exp(pairs.gfmd.apply(lambda gfmd: np.log(gfmd.astype(float)).mean())),
            )
            order = sorted(scores.index, key=lambda pair: (costs[pair], scores[pair]))
            best = [p for i, p in enumerate(order) if all(scores[p] < scores[cheaper] for cheaper in order[:i])]
            assert list(line.ys) == pytest.approx([scores[pair] for pair in best])
            assert list(line.xs) == pytest.approx([costs[pair] for pair in best])
        assert len({series.colour for series in lines.values()}) == 2


def test_no_two_tokenizers_of_a_chart_have_one_mark():
    """With more tokenizers than colours, several were drawn alike; then only the families are told apart."""
    for table, study in ((vectors_table(), VECTORS), (tokens_table(), TOKENS)):
        found = found_in(table, study)
        for rows in by_family(found.data.all_runs()).values():
            colours = family_colours(rows, found.arms)
            names = set(rows.tokenizer_choice)
            assert len(set(colours.values())) == len(colours) and set(colours) in (names, set())
            assert colours or len(names) > 4, "few tokenizers have colours enough"


def test_charts_of_families_have_one_scale(tmp_path):
    html = study_page(StudyFolder(tmp_path), found_in(tokens_table(noise=0.1), TOKENS))
    charts = html[html.index('id="families"') : html.index('id="generation"')].split('<svg class="chart"')[-2:]
    labels = [re.findall(r"<text [^>]*>([^<]*)</text>", chart) for chart in charts]
    assert labels[0] == labels[1]


def test_a_law_needs_more_computes_than_it_has_numbers(rng):
    """Seeds are no lengths: two computes of three seeds gave exponents in the thousands."""
    two = tokens_table(noise=0.1)
    assert all_fits(StudyData(two, TOKENS)) == []
    assert {fit.floor for fit in all_fits(StudyData(make_table(rng), make_study()))} == {"free", "fixed"}


def test_a_study_of_one_family_has_no_section_on_families(rng, tmp_path):
    assert 'id="families"' not in page_of(make_table(rng), make_study(), tmp_path)


def test_arms_are_named_by_what_varies_and_keep_their_colours(rng):
    study = make_study()
    arms = found_in(make_table(rng), study).arms
    assert (arms["none"], arms["crt"]) == ("no regularizer", "l2_pre at weight 4")
    assert (arms.colour("none"), arms.colour("crt")) == (0, 1)
    for name in ("fashion", "openmoji"):
        table = read_table(REPOSITORY / "results" / name / "runs.csv")
        data = StudyData(table, find_recipe(f"{name}_study", "study"))
        arms = Arms(data, main_runs(data))
        assert arms["none"] == "no regularizer" and len({arms[choice] for choice in arms.all}) == len(arms.all)
        for grid in data.study.grids:  # no two arms of a grid have one colour, and none but the baseline has blue
            colours = [arms.colour(choice.name) for choice in grid.tokenizers if choice.name in arms.all]
            assert len(set(colours)) == len(colours) or len(colours) > 7
            assert all(arms.colour(c.name) != 0 for c in grid.tokenizers if c.name != "none")
    fashion = find_recipe("fashion_study", "study")
    codes = next(grid for grid in fashion.grids if grid.name == "codebooks")
    data = StudyData(read_table(REPOSITORY / "results/fashion/runs.csv"), fashion)
    names = Arms(data, main_runs(data)).among(data.runs(codes))
    assert names == {"codes-64": "64 codes", "none": "512 codes", "codes-4096": "4,096 codes"}


def test_an_arm_says_that_its_tokens_are_a_line():
    found = tokens_table().assign(layout="7x7", codebook_size=512)
    found.loc[found.tokenizer_choice.str.startswith("line"), "layout"] = "line"
    data = StudyData(found, TOKENS)
    assert Arms(data, main_runs(data))["line-4"] == "4 tokens in a line"


def test_differences_are_paired_by_seed_and_cell(rng):
    rows = StudyData(make_table(rng, noise=0.0), make_study()).generators
    twice = rows.assign(gfmd=np.where(rows.tokenizer_choice == "crt", 0.5, 1.0) * np.exp(rows.seed.astype(float)))
    found = effect(twice, "none", "crt", "gfmd")
    assert found.cells == 15 and found.found.n == 3 and found.settled
    assert np.exp(found.found.value) == pytest.approx(0.5) and found.found.high == pytest.approx(found.found.low)
    assert lower_by(found) == "50 % lower (50 to 50 %)"
    assert set(effects_by_cell(twice, "none", "crt", "gfmd")) == {
        (size, steps) for size in "sml" for steps in (125, 250, 500, 1000, 2000)
    }
    lone = twice[~((twice.tokenizer_choice == "crt") & (twice.seed == 2) & (twice.steps == 125))]
    assert effect(lone, "none", "crt", "gfmd").found.value == pytest.approx(found.found.value)
    assert effect(twice, "none", "crt", "swap_pixels", ratio=False).found.value == 0
    assert effect(twice, "none", "missing", "gfmd") is None and effect(twice, "none", "crt", "no_such_column") is None


def test_class_names_are_escaped_and_read_without_the_weights(rng, tmp_path):
    evil = '<script>alert(1)</script>" onload="x'
    folder, table = StudyFolder(tmp_path), make_table(rng)
    last = table[(table.kind == "generator") & (table.steps == 2000) & (table.choice == "l") & (table.seed == 0)]
    (tmp_path / "samples").mkdir()
    (tmp_path / "tokenizers").mkdir()
    header = json.dumps({"__metadata__": {"vistok": json.dumps({"class_names": [evil, "b"]})}}).encode()
    for run, tokenizer in zip(last.run, last.tokenizer_run, strict=True):
        folder.sheet_file(run).write_bytes(b"not looked at")
        folder.weights_file(tokenizer).write_bytes(len(header).to_bytes(8, "little") + header)
    html = study_page(folder, found_in(table, make_study()))
    check_page(html)
    assert "alert(1)" in html and evil not in html and "<script>alert" not in html


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 100, (2).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"[]", b"\xff" * 8]
)
def test_weights_without_readable_names_have_none(content, tmp_path):
    (tmp_path / "file").write_bytes(content)
    assert class_names(tmp_path / "file") == () and class_names(tmp_path / "missing") == ()


def test_an_unchanged_table_is_not_judged_again(rng, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    calls = []
    monkeypatch.setattr(judged, "judge", lambda *parts: calls.append(1) or judge(*parts))
    table = make_table(rng)
    data = StudyData(table, make_study())
    first = judged.claims_and_laws(data, tmp_path)
    assert judged.claims_and_laws(data, tmp_path) == first and len(calls) == 1
    assert first[1][0].law.predict(1e12)[0] > 0
    table.loc[table.kind == "generator", "gfmd"] *= 1.01
    changed = judged.claims_and_laws(StudyData(table, make_study()), tmp_path)
    assert changed != first and len(calls) == 2
    (file,) = (tmp_path / "cache/vistok/studies").iterdir()
    for damage in ("", "[]", "{}", file.read_text()[:-50], file.read_text().replace('"claims": [', '"claims": [3, ')):
        file.write_text(damage)
        assert judged.claims_and_laws(StudyData(table, make_study()), tmp_path) == changed
    assert len(calls) == 7


@pytest.mark.parametrize(
    ("layout", "count", "shape"), [("line", 16, (1, 16)), ("2x8", 16, (2, 8)), (None, 16, (4, 4)), (None, 12, None)]
)
def test_gains_by_position_lie_as_the_tokens_do(layout, count, shape):
    """A line is no square, however many tokens it has; tables of earlier versions do not say how tokens lie."""
    rows = pd.DataFrame(
        {"tokenizer_choice": ["none", "crt"], "by_position": [" ".join(["2.5"] * count), " ".join(["2.0"] * count)]}
    )
    rows = rows if layout is None else rows.assign(layout=layout)
    arms = SimpleNamespace(baseline="none", main=("none", "crt"), colour=lambda name: 0)
    arms = type("Arms", (SimpleNamespace,), {"__getitem__": lambda self, name: name})(**vars(arms))
    maps = position_gains(rows, arms)
    assert [np.shape(found.values) for found in maps] == ([] if shape is None else [shape])
    assert all("of 16 positions easier" in found.title for found in maps)


def test_runs_that_chose_the_largest_scale_are_told():
    table = pd.DataFrame({"kind": ["tokenizer", *["generator"] * 4], "guidance_scale": [None, 1.0, 3.0, 3.0, None]})
    assert edge_sentence(table, (1.0, 2.0, 3.0)).startswith(
        "2 of 4 generators chose the largest guidance scale that was tried, 3:"
    )
    assert edge_sentence(table, (1.0, 2.0, 4.0)) == edge_sentence(table, (3.0,)) == ""
