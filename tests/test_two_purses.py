"""Advice for two purses: what may be spent on training, and on each image; of one study, or of two families joined."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from test_claims_tokens import table as tokens_table
from test_study_fits import SIZES, TOKENIZER_FLOPS, make_table
from vistok import cli
from vistok.errors import UserError
from vistok.study.findings.advice_source import AdviceSource
from vistok.study.findings.advise import choose
from vistok.study.findings.image_cost import PerImage, parse_per_image
from vistok.study.findings.measured_rate import measured_rate, rate_lines
from vistok.study.findings.offers import BETWEEN_TOKENIZERS, offers
from vistok.study.findings.two_purses import cost_of, image_lines, pair_of, sieve

BUDGET = TOKENIZER_FLOPS + 6e3 * SIZES["m"] * 700


def costed(speed_up: float = 2.0) -> pd.DataFrame:
    """A study in which larger generators take longer, and one tokenizer's images twice as long."""
    table = make_table(np.random.default_rng(0), speed_up=speed_up, noise=0.002).assign(
        data="fashion_mnist", image_size=28
    )
    rows = table.kind == "generator"
    dearer = 1 + (table.tokenizer_choice[rows] == "crt")
    table.loc[rows, "ms_per_image"] = dearer * table.choice[rows].map(dict(zip(SIZES, (2.0, 5.0, 9.0), strict=True)))
    table.loc[rows, "flops_per_image"] = dearer * table.choice[rows].map(dict(zip(SIZES, (2e8, 1e9, 4e9), strict=True)))
    table.loc[rows, "guidance_scale"] = 1.5
    return table


def of_vectors(table: pd.DataFrame) -> pd.DataFrame:
    """The same table as that of flows: no codes, better scores, and dear images."""
    changed = table.assign(codebook_size=np.nan, gfmd=table.gfmd * 0.8)
    changed["choice"] = changed.choice.replace(dict(zip(SIZES, ("flow-s", "flow-m", "flow-l"), strict=True)))
    return changed.assign(ms_per_image=table.ms_per_image * 20, flops_per_image=table.flops_per_image * 20)


def written(folder, table):
    folder.mkdir()
    table.to_csv(folder / "runs.csv", index=False)
    return folder


def advise(*arguments):
    done = CliRunner().invoke(cli.app, ["advise", "--budget", f"{BUDGET:g}", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


@pytest.mark.parametrize(
    ("text", "found"),
    [("20 ms", PerImage(20, "ms")), ("0.5s", PerImage(500, "ms")), ("3 GFLOPs", PerImage(3e9, "flops")),
     ("250 mflops", PerImage(2.5e8, "flops")), ("2e9 flops", PerImage(2e9, "flops")), ("1e-3 PFLOPs", PerImage(1e12, "flops")),
     ("1,000 G flops", PerImage(1e12, "flops"))],
)  # fmt: skip
def test_a_cost_is_read_as_people_write_it(text, found):
    assert parse_per_image(text) == found


@pytest.mark.parametrize(
    "text", ["", "20", "ms", "0 ms", "-1 ms", "2 hours", "nan ms", "1e999 ms", "9e307 tflops", "2 ms each"]
)
def test_other_costs_are_refused(text):
    with pytest.raises(UserError, match="--per-image .*: give a number above 0 and a unit"):
        parse_per_image(text)


def test_what_draws_too_slowly_is_left_out_and_named():
    table = costed()
    curves, source = offers(table), AdviceSource("a study", table)
    assert {cost_of(curve, table, "ms") for curve in curves if pair_of(curve) == ("crt", "m")} == {10}
    free = choose(sieve(curves, table, None).kept, BUDGET).best
    assert free.tokenizer["tokenizer_choice"] == "crt"
    sieved = sieve(curves, table, PerImage(5, "ms"))
    assert {pair_of(curve) for curve in sieved.kept} == {("none", "s"), ("none", "m"), ("crt", "s")}
    assert [cost for _, cost in sieved.dear] == [9, 10, 18]
    best = choose(sieved.kept, BUDGET).best
    lines = image_lines(source, best, sieved)
    assert lines[0] == "Guidance: 1.5, as the runs of this generator chose."
    assert f"An image takes {cost_of(best, table, 'ms'):.3g} ms and" in lines[1]
    assert (
        lines[2] == "Left out, as an image costs more than 5 ms: l on none (9 ms), m on crt (10 ms), l on crt (18 ms)."
    )
    assert {pair_of(curve)[1] for curve in sieve(curves, table, PerImage(3e8, "flops")).kept} == {"s"}
    table.loc[table.tokenizer_choice == "crt", "ms_per_image"] = np.nan
    close = sieve(curves, table, PerImage(8.999, "ms"))
    assert "more than 9 ms: l on none (a little more)." in " ".join(close.left_out())
    partly = sieve(curves, table, PerImage(5, "ms"))
    assert {pair_of(curve)[0] for curve in partly.kept} == {"none"}
    assert partly.left_out()[-1] == "3 pairs whose cost for an image is not recorded are left out, too."
    with pytest.raises(
        UserError, match="no generator of this study draws an image in 1 ms; the cheapest .* is s on none, with 2 ms"
    ):
        sieve(curves, table, PerImage(1, "ms"))
    with pytest.raises(UserError, match="draws an image in 2 ms; the cheapest .* is s on none, with a little more"):
        sieve(curves, table, PerImage(1.9999, "ms"))
    with pytest.raises(UserError, match="does not record the FLOPs of an image"):
        sieve(curves, table.drop(columns="flops_per_image"), PerImage(1e9, "flops"))


def test_both_families_are_weighed_from_their_joined_tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tokens, vectors = written(tmp_path / "tokens", costed()), written(tmp_path / "vectors", of_vectors(costed()))
    both = ("--study", tokens, "--study", vectors)
    free, cheap = advise(*both), advise(*both, "--per-image", "15 ms")
    assert f"By the runs of {tokens} and {vectors}, on fashion_mnist:" in free
    assert f"4 vectors, l2_pre with weight 4 and 2 layers (crt of {vectors})" in free and "Left out" not in free
    assert f"(crt of {tokens})" in cheap and f"flow-s on none of {vectors}" not in free
    assert (
        f"Left out, as an image costs more than 15 ms: l of {tokens} on crt of {tokens} (18 ms), flow-s of {vectors} on none"
        in cheap
    )
    assert " (80 ms) and 4 more." in cheap
    alone = advise("--study", vectors, "--per-image", "50 ms")  # vectors are refused nowhere
    assert "Expected gFMD: " in alone and "(none)" in alone
    content = json.loads(advise(*both, "--per-image", "15 ms", "--json"))
    assert content["image"]["ms_per_image"] <= 15 and content["image"]["guidance_scale"] == 1.5
    assert all(cost > 15 for *_, cost in content["left_out"]) and len(content["left_out"]) == 7


def test_studies_that_measured_differently_are_not_joined(tmp_path):
    tokens = written(tmp_path / "tokens", costed().assign(num_samples=2000))
    for change, words in (
        ({"data": "openmoji"}, "data is fashion_mnist in one and openmoji"),
        ({"image_size": 32}, "image_size is"),
        ({"num_samples": 1500}, "num_samples is 2000 in one and 1500"),
    ):
        other = written(tmp_path / str(len(words)), of_vectors(costed()).assign(**change))
        with pytest.raises(UserError, match=words):
            advise("--study", tokens, "--study", other)
    with pytest.raises(UserError, match="is given twice"):
        advise("--study", tokens, "--study", tokens)


def test_a_budget_in_hours_is_converted_for_vectors_too(monkeypatch):
    from vistok.recipes import find_recipe

    asked = []
    monkeypatch.setattr(
        "vistok.verbs.step_time.training_rate",
        lambda config, space: asked.append((config.generator.kind, space.kind)) or 1e9 / len(asked),
    )
    study = find_recipe("debug_vectors_study")
    table = costed()
    names = {"none": "kl-4", "crt": "kl-4-causal"}
    vectors = of_vectors(table).assign(choice="flow", tokenizer_choice=table.tokenizer_choice.map(names))
    vectors.loc[vectors.kind == "tokenizer", "choice"] = vectors.tokenizer_choice
    assert measured_rate(AdviceSource("vectors", vectors, study=study)) == 1e9
    tokens = table.assign(choice="ar", tokenizer_choice="vq")
    both = pd.concat([tokens, vectors])
    assert measured_rate(AdviceSource("both", both, study=study)) == 1e9 / 3  # the slower of both
    assert sorted(asked[1:]) == [("autoregressive", "tokens"), ("flow", "vectors")]
    with pytest.raises(UserError, match="give the budget in FLOPs"):
        measured_rate(AdviceSource("unknown", vectors))


def test_a_rate_beside_busy_neighbours_is_not_taken_for_the_machines():
    alike = rate_lines("2 hours", 1.44e14, 2e10, 2.2e10)
    assert len(alike) == 1 and "1.44e+14 FLOPs at 20.0 GFLOP/s" in alike[0] and "the study's runs: 22.0" in alike[0]
    slower = rate_lines("2 hours", 3.6e13, 5e9, 2e10)
    assert "something else running" in slower[1] and "it would be 1.44e+14 FLOPs" in slower[1]
    assert "faster than theirs" in rate_lines("2 hours", 1e15, 1.4e11, 2e10)[1]


def test_runs_of_one_length_are_offered_at_what_they_cost(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = costed()
    longest = table[table.kind == "generator"].steps.max()
    table = table[(table.kind == "tokenizer") | ((table.choice == "m") & (table.steps == longest))]
    found = {pair_of(offer): offer for offer in offers(table)}
    point = found["crt", "m"]
    runs = table[(table.tokenizer_choice == "crt") & (table.kind == "generator")]
    cost = TOKENIZER_FLOPS + runs.train_flops.mean()
    assert point.option(0.99 * cost) is None and point.ends == (cost, cost)
    bought = point.option(100 * cost)
    assert bought.flops == cost and bought.steps == longest and bought.runs == len(runs)
    assert bought.gfmd == pytest.approx(np.exp(np.log(runs.gfmd).mean())) and bought.low < bought.gfmd < bought.high
    none = next(offer for offer in offers(table) if pair_of(offer) == ("none", "m"))
    assert none.scatter == point.scatter and none.freedom == 2 * (len(runs) - 1)  # of all such runs
    one = offers(table[(table.kind == "tokenizer") | (table.seed == 0)])
    alone = next(offer for offer in one if pair_of(offer) == ("crt", "m")).option(cost)
    # One run says nothing of how tokenizers of one setting differ: both it and the next are off by as much.
    assert alone.high / alone.gfmd == pytest.approx(math.exp(BETWEEN_TOKENIZERS * math.sqrt(2)))
    vectors = table.assign(codebook_size=np.nan)
    assert {option.tokenizer["tokenizer_choice"] for option in (choose(offers(vectors), 9e99).runner_up,)} == {"none"}
    alike = vectors[vectors.tokenizer_choice == "crt"]
    twice = pd.concat([alike, alike[alike.kind == "generator"].assign(choice="n")])
    assert (
        choose(offers(twice), 9e99).runner_up is None
    )  # two generators on one tokenizer to vectors, whose codes are not numbers
    table.loc[table.choice == "m", "commands"] = "vistok shorten A --teacher B\nvistok sample latest"
    folder = str(written(tmp_path / "points", table))
    said = {
        times: CliRunner().invoke(cli.app, ["advise", "--study", folder, "--budget", f"{times * cost:g}"])
        for times in (0.1, 1.1, 50)
    }
    assert said[1.1].stdout.endswith("To do it:\nvistok shorten A --teacher B\nvistok sample latest\n")
    assert "promises a lower gFMD" not in said[1.1].stdout
    assert "nothing that the study has promises a lower gFMD for more" in said[50].stdout
    assert "give 4.6e+12 or more" in str(said[0.1].exception)


def test_a_pair_of_two_lengths_is_left_out_once():
    sieved = sieve(offers(tokens_table()), tokens_table(), PerImage(2, "ms"))
    (line,) = sieved.left_out()
    named = re.findall(r"(\w+ on [\w-]+) \(", line)
    assert len(set(named)) == len(named) == 3 and line.endswith("and 2 more.")


def test_what_an_image_costs_is_asked_of_each_length_where_guidance_differs():
    """A pair's median over lengths left out runs without guidance for what those with it cost."""
    table = tokens_table()
    long = (table.tokenizer_choice == "clusters") & (table.choice == "ar") & (table.train_flops > 4e12)
    table.loc[long, "ms_per_image"] = 3.0  # 9.8 at the shorter length
    table["guidance_scale"] = np.where(long, 1.0, 2.0)
    sieved = sieve(offers(table), table, PerImage(4, "ms"))
    (kept,) = (one for one in sieved.kept if pair_of(one) == ("clusters", "ar"))
    assert kept.flops > 4e12 and "clusters" not in sieved.left_out()[0]
    lines = image_lines(AdviceSource("a study", table), kept.option(1e15), sieved)
    assert lines[0].startswith("Guidance: 1, ") and "takes 3 ms" in lines[1]


def test_guided_samples_may_be_better_than_reconstructions():
    """Where runs have a gFMD below rFMD, an interval that ended there would begin at the expected score."""
    table = tokens_table(noise=0.1).assign(rfmd=100.0)
    found = [offer.option(1e15) for offer in offers(table)]
    assert found and all(one.low < one.gfmd < one.high for one in found)
    bounded = [offer.option(1e15) for offer in offers(table.assign(rfmd=0.99 * table.gfmd.min()))]
    assert min(one.low for one in bounded) == pytest.approx(0.99 * table.gfmd.min())


def test_who_names_no_study_hears_of_the_other_families(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no results of one's own lie
    for budget in ("2e14 flops", "200 TFLOPs"):
        done = CliRunner().invoke(cli.app, ["advise", "--budget", budget, "--per-image", "1 s"])
        assert "--study tokens_study (masked, flow)" in done.stdout and "fashion_study" in done.stdout
    named = CliRunner().invoke(
        cli.app, ["advise", "--budget", "2e14 flops", "--per-image", "1 s", "--study", "fashion_study"]
    )
    assert named.exit_code == 0 and "tokens_study" not in named.stdout
    with pytest.raises(UserError, match="num_samples is 1500 in one and 2000 in the other"):
        advise("--study", "continuous_study", "--study", "fashion_shortcuts")
