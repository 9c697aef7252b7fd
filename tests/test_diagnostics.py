"""Diagnostics of a tokenizer: counting neighbours against sources with known entropy, what diagnostics are worth, the command."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from vistok.cli import app
from vistok.metrics.codebook import unigram_nats
from vistok.metrics.neighbours import neighbour_nats
from vistok.runs.shipped import shipped_network
from vistok.scoring import diagnostics
from vistok.scoring.diagnostics import MEANING
from vistok.study.findings.worth import shipped_diagnostics, standing, worth_of

CODES, COLUMNS = 8, 5


def drawn(images, seed, follow="", noise=0.0):
    """Tokens (images, 25): each follows from the one before it, or above it, unless noise or an edge intervenes."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(CODES, size=(images, 25))
    for place in range(25):
        neighbour = {"before": place - 1 if place % COLUMNS else -1, "above": place - COLUMNS, "": -1}[follow]
        if neighbour >= 0:
            kept = rng.random(images) >= noise
            tokens[kept, place] = (tokens[kept, neighbour] * 3 + 1) % CODES
    return tokens


@pytest.mark.parametrize("columns", [1, COLUMNS])
def test_independent_tokens_are_guessed_as_well_as_from_their_frequencies(columns):
    train, held_out = drawn(2000, 1), drawn(800, 2)
    counts = [np.bincount(part.ravel(), minlength=CODES) for part in (train, held_out)]
    assert neighbour_nats(train, held_out, CODES, columns) == pytest.approx(unigram_nats(*counts), abs=0.01)


@pytest.mark.parametrize("follow", ["before", "above"])
def test_tokens_that_follow_from_a_neighbour_cost_only_those_without_one(follow):
    """A fifth of the places have no such neighbour: ln 8 nats each."""
    found = neighbour_nats(drawn(3000, 1, follow), drawn(1000, 2, follow), CODES, COLUMNS)
    assert np.log(CODES) / 5 < found < np.log(CODES) / 5 + 0.35  # shares are of all places alike
    noisy = neighbour_nats(drawn(3000, 1, follow, 0.5), drawn(1000, 2, follow, 0.5), CODES, COLUMNS)
    assert found < noisy < np.log(CODES)


def test_images_sorted_by_class_are_measured_as_others_are():
    """The shares of the counts came from the first classes, and the last ones were measured by them."""
    train, held_out = ([drawn(count, seed, "before"), drawn(count, seed + 5)] for count, seed in ((1500, 1), (500, 2)))
    by_class, mixed = np.concatenate(held_out), np.stack(held_out, axis=1).reshape(1000, -1)
    expected = neighbour_nats(np.concatenate(train), mixed.repeat(2, axis=0), CODES, COLUMNS)
    assert neighbour_nats(np.concatenate(train), by_class, CODES, COLUMNS) == pytest.approx(expected, abs=0.02)


def test_large_codebooks_are_counted_in_little_memory():
    """A table of all pairs of 262,144 codes would take half a tebibyte."""
    codes = 2**18
    tokens = np.random.default_rng(0).integers(0, codes, size=(40, 25))
    assert neighbour_nats(tokens, tokens[:10], codes, COLUMNS) < np.log(codes)


def test_on_a_line_only_the_token_before_is_asked():
    above = [drawn(count, seed, "above") for count, seed in ((2000, 1), (800, 2))]
    assert neighbour_nats(*above, CODES, 1) == pytest.approx(np.log(CODES), abs=0.02)


def test_a_diagnostic_is_worth_what_it_predicts_of_tokenizers_that_it_has_not_seen():
    rng = np.random.default_rng(0)
    good, luck = rng.normal(size=24), rng.normal(size=24)
    table = pd.DataFrame({
        "choice": [f"c{number // 3}" for number in range(24)], "good": good, "luck": luck, "gfmd": np.exp(1 - 2 * good),
    })  # fmt: skip
    worths, chance = worth_of(table, ["good", "luck"], "gfmd")
    best, *_, worst = worths
    assert "good" in best.names and best.correlation > 0.99 and best.count == 24
    assert worst.names == ("luck",) and worst.correlation < 0.5
    alone = {one.names: one for one in worths}
    assert alone["good",].sign == -1 and alone["good",].better == "more"
    assert alone["good",].chance < 0.001 and chance < 0.002
    assert alone["luck",].better == "" and alone["luck",].chance > 0.05
    assert standing(table, "good", np.inf) == 1 and standing(table, "good", -np.inf) == 0


def test_what_tells_nothing_is_worth_less_than_nothing_and_chance_explains_it():
    # Leaving ways out makes a line miss towards what was left out, so that 0 is not what nothing gives.
    rng, choices = np.random.default_rng(1), [f"c{number // 2}" for number in range(26)]
    below, chances = [], []
    for _ in range(60):
        means = dict(zip(dict.fromkeys(choices), rng.normal(size=(13, 2)), strict=True))
        values = np.array([means[choice] for choice in choices]) + 0.1 * rng.normal(size=(26, 2))
        table = pd.DataFrame({"choice": choices, "luck": values[:, 0], "gfmd": np.exp(values[:, 1])})
        (luck,), chance = worth_of(table, ["luck"], "gfmd")
        assert chance == pytest.approx(luck.chance) and luck.usual < -0.2
        below.append(luck.correlation < 0)
        chances.append(luck.chance)
    assert np.mean(below) > 0.6
    assert 0.3 < np.mean(chances) < 0.7 and np.mean(np.array(chances) < 0.05) < 0.2


def test_the_recorded_tokenizers_have_all_diagnostics():
    table = shipped_diagnostics()
    assert set(MEANING) <= set(table.columns) and len(table) == 33 and not table[list(MEANING)].isna().any().any()
    assert table.gfmd_250.notna().sum() == 27 and table.gfmd_1000.notna().sum() == 26


@pytest.mark.slow
def test_the_command_says_each_value_and_its_worth(monkeypatch, fashion_root):
    monkeypatch.setattr(diagnostics, "TRAIN", 300)
    monkeypatch.setattr(diagnostics, "HELD_OUT", 120)
    place = shipped_network("fashion-crt", "tokenizer")
    words = ["diagnose", str(place), "--data", str(fashion_root)]
    done = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    found = json.loads(done.stdout)["diagnostics"]
    assert found.keys() == MEANING.keys()
    assert found["gain"]["value"] == pytest.approx(found["unigram"]["value"] - found["neighbours"]["value"])
    assert 0 < found["changed"]["value"] < 1 and 0 < found["smoothness"]["value"] < 1.5
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0 and all(name in done.output for name in MEANING)


def test_vectors_have_no_tokens_to_diagnose(fashion_root):
    place = shipped_network("fashion-flow", "tokenizer")
    done = CliRunner().invoke(app, ["diagnose", str(place), "--data", str(fashion_root)])
    assert done.exit_code != 0 and "diagnostics are of tokens" in str(done.exception or done.output)
