"""Claims on tokens, held against tables whose truth is known."""

import math

import numpy as np
import pandas as pd
import pytest

from vistok.recipes import find_recipe
from vistok.study.findings.claims import judge
from vistok.study.findings.table import COLUMNS

STUDY = find_recipe("tokens_study", "study")
BUDGETS = (3e12, 6e12)
# Factors of gFMD and rFMD, and FLOPs of a generator's step, by tokenizer.
TRUTH = {
    "grid": (1.0, 1.0, 7e9), "line-4": (2.0, 4.0, 1.2e9), "line-8": (1.5, 2.0, 1.8e9), "line-16": (1.02, 1.2, 2.9e9),
    "line-32": (1.2, 0.9, 5e9), "line-16-causal": (0.8, 1.3, 2.9e9), "clusters": (1.4, 2.0, 7e9),
}  # fmt: skip
TOKENS = {"grid": 49, "clusters": 49, "line-4": 4, "line-8": 8, "line-32": 32}
MASKED = 1.3  # how much worse the masked family is


def table(seeds=(0, 1, 2), noise=0.01, causal_masked=0.8) -> pd.DataFrame:
    rng, rows = np.random.default_rng(0), []
    for name, (generates, reconstructs, flops) in TRUTH.items():
        for seed in seeds:
            common = {"data": "fashion_mnist", "seed": seed, "tokenizer_choice": name, "tokenizer_run": f"{name}-{seed}",
                      "crt_variant": "l2_post" if "causal" in name else "none", "num_tokens": TOKENS.get(name, 16)}  # fmt: skip
            rows.append({**common, "kind": "tokenizer", "choice": name, "run": f"{name}-{seed}", "train_flops": 1.0,
                         "rfmd": reconstructs * math.exp(noise * rng.standard_normal())})  # fmt: skip
            for family in ("ar", "masked") if name in ("grid", "line-16", "line-16-causal", "clusters") else ("ar",):
                for budget in BUDGETS:
                    steps = int(budget / flops)  # fewer tokens, more steps
                    factor = generates * (MASKED if family == "masked" else 1)
                    if family == "masked" and "causal" in name:
                        factor *= causal_masked / 0.8
                    gfmd = 3 * factor * (budget / 3e12) ** -0.3 * math.exp(noise * rng.standard_normal())
                    calls = TOKENS.get(name, 16) if family == "ar" else 8
                    rows.append({**common, "kind": "generator", "choice": family, "run": f"{family}-{steps}-{name}-{seed}",
                                 "steps": steps, "params": 1, "train_flops": steps * flops, "gfmd": gfmd, "gfmd_low": gfmd,
                                 "gfmd_high": gfmd, "gfmd_val": gfmd, "gfmd_unguided": gfmd, "total_flops": budget,
                                 "rfmd": reconstructs, "calls": calls, "ms_per_image": calls * 0.2})  # fmt: skip
    return pd.DataFrame(rows).reindex(columns=[*COLUMNS, "calls", "ms_per_image"])


def verdicts(found: pd.DataFrame) -> dict:
    return {claim.claim: claim for claim in judge(found, STUDY)}


def test_what_is_so_is_found():
    found = verdicts(table())
    expected = {
        "T1.reconstruction line-8": "holds", "T1.generation line-16": "holds", "T1.reconstruction line-32": "holds",
        "T1.generation line-32": "fails", "T3.generation ar": "holds", "T3.generation masked": "holds", "T3.calls ar": "holds",
        "T3.ms ar": "holds", "T3.calls masked": "fails", "T6.ar clusters": "fails", "T5 grid": "fails", "T5 line-16": "fails",
        "T4 ar": "holds", "T4 masked": "holds",
    }  # fmt: skip
    assert {name: found[name].verdict for name in expected} == expected
    assert found["T1.generation line-8"].effect == pytest.approx(math.log(1.5 / 2.0), abs=0.03)
    assert found["T3.generation ar"].n == 3 and found["T3.calls ar"].effect == pytest.approx(math.log(16 / 49))
    assert found["T5 grid"].effect == pytest.approx(math.log(MASKED), abs=0.03)
    assert found["T4 order"].effect == pytest.approx(0, abs=0.05)
    assert not [
        name for name in found if name.startswith(("C1", "C2"))
    ]  # of regularizers, which the main grid does not vary


def test_a_gain_that_needs_the_order_is_told_from_one_that_does_not():
    assert verdicts(table(causal_masked=1.0))["T4 order"].verdict == "holds"


def test_budgets_are_matched_where_steps_are_not():
    """A line's generator makes more steps for a budget; were cells matched by steps, none would be left."""
    shifted = table()
    shifted.loc[(shifted.tokenizer_choice == "line-16") & (shifted.train_flops > 4e12), "gfmd"] *= 2
    effect = verdicts(shifted)["T3.generation ar"].effect
    assert effect == pytest.approx(math.log(1.02) + math.log(2) / 2, abs=0.03)


def test_one_seed_settles_nothing_and_a_table_without_costs_says_so():
    found = verdicts(table(seeds=(0,)).drop(columns="calls"))
    assert {claim.verdict for name, claim in found.items() if name[0] == "T"} == {"open"}
    assert found["T3.calls ar"].note == "no column calls"
