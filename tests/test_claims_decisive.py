"""Claims that are judged twice, on seeds whose guidance others chose, held against tables whose truth is known."""

import math

import numpy as np
import pandas as pd
import pytest

from vistok.errors import UserError
from vistok.recipes import find_recipe
from vistok.study.config import Scoring
from vistok.study.findings.answer import answer
from vistok.study.findings.arms import Arms
from vistok.study.findings.by_scale import at_scales, chosen_by_others, parsed
from vistok.study.findings.claim_data import StudyData
from vistok.study.findings.claims import judge
from vistok.study.findings.claims_decisive import LOOKS
from vistok.study.findings.curves import area_compute_ratio
from vistok.study.findings.scale_figure import ratios_by_scale
from vistok.study.findings.scored_by import ScoredBy
from vistok.study.findings.table import COLUMNS
from vistok.study.findings.tables import top_table

STUDY = find_recipe("fashion_decisive_study", "study")
SEEDS = STUDY.grids[0].seeds
SCALES = STUDY.scoring.scales
SIZES = {"l": 4.0, "m": 2.0, "s": 1.0}
ALPHA = 0.7
BY = ScoredBy("gFMD", "toy_evaluator", "a" * 64, "toy test")


def table(saved=1.5, seeds=SEEDS, noise=0.02, guided=0.0, easier=-0.05, unigram=-0.02, alpha=ALPHA) -> pd.DataFrame:
    """l2-post-4 needs 1/`saved` of the baseline's compute, less by `guided` for each e-fold of guidance; l2-pre-1 saves nothing."""
    rng, rows = np.random.default_rng(1), []
    for name in ("none", "l2-post-4", "l2-pre-1"):
        better = saved if name == "l2-post-4" else 1.0
        for seed in seeds:
            common = {"data": "fashion_mnist", "seed": seed, "tokenizer_choice": name, "tokenizer_run": f"{name}-{seed}",
                      "num_tokens": 4, "rfmd": 0.1}  # fmt: skip
            entropy = 8 + (unigram / math.log(2) if better > 1 else 0.0)
            rows.append({**common, "kind": "tokenizer", "choice": name, "run": f"{name}-{seed}", "steps": 9,
                         "train_flops": 5.0, "codebook_usage": 0.9, "position_entropy": entropy, "by_position": ""})  # fmt: skip
            for choice, size in SIZES.items():
                for steps in (250, 500, 1000):
                    compute = size * steps
                    steeper = (compute / 250) ** -(alpha - ALPHA if better > 1 else 0.0)
                    plain = 0.1 + 30 * (compute * better) ** -ALPHA * steeper * math.exp(noise * rng.standard_normal())

                    def by_scale(better=better, plain=plain):
                        values = {
                            s: plain * (1 + 0.2 * math.log(s / 2) ** 2) * (s**guided if better > 1 else 1)
                            for s in SCALES
                        }
                        return " ".join(
                            f"{s:g}:{v * math.exp(noise * rng.standard_normal()):.6g}" for s, v in values.items()
                        )

                    rows.append({**common, "kind": "generator", "choice": choice, "run": f"{choice}-{steps}-{name}-{seed}",
                                 "steps": steps, "params": int(size), "train_flops": compute, "total_flops": compute + 5,
                                 "gfmd": plain, "gfmd_val": plain, "gfmd_unguided": plain, "guidance_scale": 2.0,
                                 "val_nats_per_token": 3 + (easier if better > 1 else 0.0), "position_entropy": entropy,
                                 "by_position": "3 3 3 3", "gfmd_by_scale": by_scale(), "gfmd_val_by_scale": by_scale(),
                                 "gfmd_second_by_scale": by_scale()})  # fmt: skip
    found = pd.DataFrame(rows)
    return found.reindex(columns=[*COLUMNS, *(name for name in found if name not in COLUMNS)])


def verdicts(found: pd.DataFrame) -> dict:
    return {claim.claim: claim for claim in judge(found, STUDY) if claim.claim.startswith("E")}


def test_the_area_between_power_laws_is_their_ratio_of_compute():
    compute = np.array([1.0, 2.0, 4.0])
    curves = [[(c, size * (c * size) ** -0.6) for c in compute] for size in (1, 3)]
    moved = [[(c, size * (2.5 * c * size) ** -0.6) for c in compute] for size in (1, 3)]
    assert area_compute_ratio(curves, moved) == pytest.approx(math.log(2.5))
    assert area_compute_ratio(moved, curves) == pytest.approx(-math.log(2.5))


def test_a_saving_is_found_and_its_absence_is_not():
    found = verdicts(table())
    for label in ("E1.chosen", "E2.unguided", "E3.total", "E4.second"):
        assert found[f"{label} l2-post-4"].verdict == "holds"
        assert found[f"{label} l2-pre-1"].effect == pytest.approx(1, abs=0.05)
    assert found["E1.chosen l2-post-4"].effect == pytest.approx(1.5, rel=0.06)
    assert found["E1.chosen l2-post-4"].n == 6 and found["E1.chosen l2-post-4"].confidence == LOOKS[6]
    assert found["E1.chosen l2-pre-1"].n == 12 and found["E1.chosen l2-pre-1"].confidence == LOOKS[12]


def test_fewer_seeds_than_two_looks_need_are_judged_once_when_all_are_there():
    five = tuple(SEEDS[:5])
    study = STUDY.replace(grids=tuple(grid.replace(seeds=five) for grid in STUDY.grids))
    (found,) = [claim for claim in judge(table(seeds=five), study) if claim.claim == "E1.chosen l2-post-4"]
    assert found.verdict == "holds" and found.n == 5 and found.confidence == 0.95 and "judged once" in found.rule
    (early,) = [claim for claim in judge(table(seeds=five[:4]), study) if claim.claim == "E1.chosen l2-post-4"]
    assert early.verdict == "open"


def test_a_loss_fails():
    worse = table()
    worse["tokenizer_choice"] = worse.tokenizer_choice.map({"none": "l2-post-4", "l2-post-4": "none"}).fillna(
        "l2-pre-1"
    )
    of_tokenizers = worse.kind == "tokenizer"
    worse.loc[of_tokenizers, "choice"] = worse.tokenizer_choice[of_tokenizers]
    assert verdicts(worse)["E1.chosen l2-post-4"].verdict == "fails"


@pytest.mark.parametrize(
    ("count", "verdict", "used"), [(1, "open", 1), (5, "open", 5), (6, "holds", 6), (11, "holds", 6)]
)
def test_nothing_is_judged_between_the_looks(count, verdict, used):
    claim = verdicts(table(seeds=SEEDS[:count]))["E1.chosen l2-post-4"]
    assert (claim.verdict, claim.n) == (verdict, used) and f"{count} of 12" in claim.note


def test_a_seed_without_all_its_cells_does_not_count():
    rows = table(seeds=SEEDS[:6])
    lacking = rows[
        ~((rows.seed == SEEDS[0]) & (rows.choice == "s") & (rows.steps == 250) & (rows.tokenizer_choice == "none"))
    ]
    claim = verdicts(lacking)["E1.chosen l2-post-4"]
    assert (claim.verdict, claim.n) == ("open", 5)


def test_later_seeds_do_not_change_what_a_look_has_found():
    """Seeds after the sixth would choose another guidance for the first six, and undo what these have settled."""
    later = table(noise=0.1)
    first = verdicts(later[later.seed.isin(SEEDS[:6])])
    bad = (later.kind == "generator") & later.seed.isin(SEEDS[6:])
    worst = " ".join(f"{scale:g}:{0.001 if scale == 6 else 9}" for scale in SCALES)
    later.loc[bad, "gfmd_val_by_scale"] = worst
    found = verdicts(later)
    for name, claim in first.items():
        if claim.verdict != "open":
            assert (found[name].effect, found[name].low, found[name].verdict) == (
                claim.effect,
                claim.low,
                claim.verdict,
            )
    assert first["E1.chosen l2-post-4"].verdict == "holds"
    assert "; 12 of 12 are complete: all of them give" in found["E1.chosen l2-post-4"].note


@pytest.mark.parametrize(("count", "said"), [(3, "not judged before 6 seeds are complete; 3 of 12 are"), (6, None)])
def test_the_answer_is_that_of_these_claims_and_says_when_nothing_is_judged_yet(count, said):
    rows = table(seeds=SEEDS[:count])
    claims = judge(rows, STUDY)
    assert {claim.claim[0] for claim in claims} == {"E"}  # the paper's claims on the same grid would be a second answer
    data = StudyData(rows, STUDY)
    arms = Arms(data, data.generators)
    (sentence, *_) = answer(arms, data.generators, claims, BY)
    effect = next(claim.effect for claim in claims if claim.claim == "E1.chosen l2-post-4")
    assert f"{effect:.2f} times less" in sentence and "99.48 %" in sentence
    assert sentence.endswith(f"; {said}.") if said else "open" not in sentence.partition(";")[0]
    row = next(
        row for row in top_table(data.tokenizers, data.generators, arms, claims).rows if "l2-post" in str(row[0])
    )
    assert str(row[-1]).startswith(f"{effect:.2f} (")


def test_what_guidance_and_unigrams_do_is_told_apart():
    found = verdicts(table(guided=0.1))
    assert found["E5.scales l2-post-4"].verdict == "holds"
    assert found["E5.scales l2-post-4"].effect == pytest.approx(-0.1, abs=0.02)
    assert found["E6.conditional l2-post-4"].effect == pytest.approx(-0.03)
    assert found["E6.conditional l2-post-4"].verdict == "holds"
    assert verdicts(table(unigram=-0.06))["E6.conditional l2-post-4"].verdict == "fails"  # all of the gain is unigram
    assert found["E7.codes l2-post-4"].verdict == "holds"


def test_a_steeper_law_is_found_above_the_floor():
    found = verdicts(table(alpha=0.8))
    assert found["E8.exponent l2-post-4"].verdict == "holds"
    assert found["E8.exponent l2-post-4"].effect == pytest.approx(-0.1, abs=0.05)


def test_the_gain_at_each_scale_is_shown_as_it_is():
    rows = table(guided=0.2, seeds=SEEDS[:4])
    rows = StudyData(rows, STUDY).generators
    found = ratios_by_scale(rows, "none", "l2-post-4")
    assert list(found) == sorted(SCALES) and {one.n for one in found.values()} == {4}
    for scale, one in found.items():  # of the truth's ratio a fifth of the scale's logarithm is lost
        assert one.low < one.value < one.high
        assert math.log(one.value / found[1.0].value) == pytest.approx(0.2 * math.log(scale), abs=0.05)
    assert found[1.0].value < 0.85
    assert ratios_by_scale(rows.assign(gfmd_by_scale=None), "none", "l2-post-4") == {}
    assert ratios_by_scale(rows.drop(columns="gfmd_by_scale"), "none", "l2-post-4") == {}
    assert ratios_by_scale(rows, "none", "l2-pre-9") == {}
    one_seed = ratios_by_scale(rows[rows.seed == SEEDS[0]], "none", "l2-post-4")
    assert {one.high for one in one_seed.values()} == {math.inf}


def test_no_runs_own_samples_choose_its_guidance():
    rows = table(seeds=SEEDS[:3])
    rows = StudyData(rows, STUDY).generators.reset_index(drop=True)
    before = chosen_by_others(rows)
    own = " ".join(f"{scale:g}:{0.001 if scale == 6 else 9}" for scale in SCALES)
    rows.loc[0, "gfmd_val_by_scale"] = own
    after = chosen_by_others(rows)
    assert after[0] == before[0]
    cell = rows[(rows.choice == rows.choice[0]) & (rows.steps == rows.steps[0]) & (rows.tokenizer_choice == "none")]
    assert set(after[cell.index[1:]]) == {6.0}  # it chose for the others
    assert at_scales(rows.gfmd_val_by_scale, after)[0] == parsed(own)[after[0]]


def test_one_draw_serves_the_search_and_the_scores():
    with pytest.raises(UserError, match=r"search_samples must equal samples.*found 100, 200"):
        Scoring(every_scale=True, samples=200, search_samples=100)
    with pytest.raises(UserError, match="scales must hold 1"):
        Scoring(every_scale=True, scales=(2.0, 3.0), samples=1_000)
