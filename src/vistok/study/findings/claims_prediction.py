"""C7 prediction: claims on how well laws and advice predict runs they have not seen."""

import math

import numpy as np
import pandas as pd
from scipy import special

from vistok.errors import UserError
from vistok.study.config import Grid
from vistok.study.findings.advise import advise
from vistok.study.findings.claim_data import CELL, StudyData
from vistok.study.findings.offers import laws_of
from vistok.study.findings.verdict import (
    CHANGED,
    FAILS,
    HOLDS,
    LOG_RATIO,
    OPEN,
    SHARE,
    Claim,
    Estimate,
    Measure,
    Verdict,
    below,
    make_claim,
    mean_of_seeds,
    missing_claim,
)

# A run's FLOPs differ from its budget by less than this share: at most one step.
SAME_BUDGET = 0.01
REGRET = Measure("gFMD of what is advised / best gFMD", LOG_RATIO)
# The rule of `_inside`, in words.
INSIDE = (
    "Clopper-Pearson interval, 95 %; holds where the interval's upper end reaches 0.95 and the share is at least 0.8, "
    "fails where the upper end is below 0.8"
)


def prediction(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge C7: do laws fitted to the cheaper half of the main grid predict the other half, and how good is their advice?"""
    inside_rule = (
        f"{CHANGED} (the law's floor was 0; each law had a scatter of its own): effect: share of the held-out runs (each generator's longest) inside the 95 % prediction interval of the law "
        "fitted to the shorter ones of the same tokenizer choice and generator, with the tokenizer's rFMD as its floor and the "
        "common scatter of runs about their laws; "
        f"{INSIDE}"
    )
    regret_rule = (
        f"{CHANGED} (each tokenizer had a budget of its own): effect: mean over the held-out runs' budgets (one for each generator, the mean over its tokenizers) of log(gFMD of what "
        "advice from the shorter runs says to train / best mean gFMD of a cell trained for no more); what is advised is valued by "
        "the law fitted to all its runs; n generators, t-interval, 95 %; holds below 0.1, fails above"
    )
    statements = (
        "Laws fitted to small budgets predict larger ones.",
        "Advice from small budgets loses little at larger ones.",
    )
    rows = data.runs(grid)
    if rows.empty:
        return [missing_claim(f"C7.{n}", s, r, "no runs") for n, s, r in zip(("inside", "regret"), statements, (inside_rule, regret_rule), strict=True)]  # fmt: skip
    cheap = rows[rows.length < rows.groupby("choice").length.transform("max")]
    held = rows.drop(cheap.index)
    return [
        _inside("C7.inside", statements[0], inside_rule, cheap, held),
        _regret(data, statements[1], regret_rule, cheap, held),
    ]


def _inside(name: str, statement: str, rule: str, cheap: pd.DataFrame, held: pd.DataFrame) -> Claim:
    """Judge how many of the held-out runs fall where the laws of the other runs predict."""
    hits, errors, promised, came = [], [], [], []
    for key, law in laws_of(cheap).items():
        for _, run in held[(held.tokenizer_choice == key[0]) & (held.choice == key[1])].iterrows():
            expected, low, high = law.predict(float(run.train_flops))
            hits.append(low <= run.gfmd <= high)
            errors.append(math.log(run.gfmd / expected))
            if run.train_flops > (1 + SAME_BUDGET) * law.high_compute:
                last = float(law(law.high_compute))
                promised.append(math.log(last / expected))
                came.append(math.log(last / run.gfmd))
    if not hits:
        return missing_claim(name, statement, rule, "too few lengths to hold any out")
    count, total = sum(hits), len(hits)
    low = float(special.betaincinv(count, total - count + 1, 0.025)) if count else 0.0
    high = float(special.betaincinv(count + 1, total - count, 0.975)) if count < total else 1.0
    share = count / total
    verdict = Verdict(HOLDS if high >= 0.95 and share >= 0.8 else FAILS if high < 0.8 else OPEN, 0.8, 0.95)
    inside = Measure("runs inside their interval", SHARE)
    note = (
        f"{sum(error > 0 for error in errors)} of {total} runs, of {held.tokenizer_run.nunique()} tokenizers, lie above what is "
        f"predicted; in the mean {100 * math.expm1(float(np.mean(errors))):+.0f} %, rms of the logarithms {float(np.sqrt(np.mean(np.square(errors)))):.2f}"
    )
    if sum(promised) > 0:
        note += (
            f"; of the fall of log gFMD that laws promise beyond their runs, {sum(came) / sum(promised):.0%} came true"
        )
    found = Estimate(share, low, high, total)
    return make_claim(name, statement, rule, found, verdict, note, inside, held.seed.nunique())


def _regret(data: StudyData, statement: str, rule: str, cheap: pd.DataFrame, held: pd.DataFrame) -> Claim:
    known, rows = pd.concat([data.tokenizers, cheap]), pd.concat([cheap, held])
    laws = laws_of(rows)
    keys = ["tokenizer_choice", *CELL]
    trained = rows.groupby(keys).agg({"total_flops": "mean", "gfmd": "mean"})
    regrets: dict[str, list[float]] = {}
    for key, budget in held.groupby(keys).total_flops.mean().items():
        generator = str(key[1])  # type: ignore[index]
        try:
            best = advise(known, float(budget)).best
        except UserError:
            continue
        law = laws.get((best.tokenizer["tokenizer_choice"], best.generator))
        affordable = trained[trained.total_flops <= budget * 1.001]
        if law is not None:
            value = float(law(best.flops - best.tokenizer_flops))
            regrets.setdefault(generator, []).append(math.log(value / affordable.gfmd.min()))
    if not regrets:
        return missing_claim("C7.regret", statement, rule, "no held-out budget for which advice could be given")
    regret = mean_of_seeds([float(np.mean(values)) for values in regrets.values()])
    return make_claim("C7.regret", statement, rule, regret, below(regret, 0.1), measure=REGRET)


def budgets(data: StudyData, grid: Grid) -> list[Claim]:
    """Judge C7: does the main grid's advice for budgets between its lengths hold on tokenizers of new seeds?"""
    names = ("C7.budgets", "C7.budgets_regret")
    statements = (
        "A new run, on a tokenizer of a new seed and for a budget between the main grid's, lies where its law says.",
        "What advice says for such budgets loses little to the best that was trained for them.",
    )
    rules = (
        f"{CHANGED} (each law had a scatter of its own): effect: share of this grid's runs inside the 95 % prediction interval "
        "of the main grid's law of the same tokenizer choice and generator, by the common scatter of runs about their laws; "
        f"{INSIDE}",
        "effect: mean over budgets of log(gFMD of what advice says among this grid's tokenizers and generators / best gFMD "
        "trained for that budget); every gFMD is that of a run (mean over seeds), so that the best is chosen with its noise "
        "and the effect is never below 0; n budgets, t-interval, 95 %; holds below 0.1, fails above",
    )
    rows, main = data.runs(grid), data.grid(data.study.main_grid)
    if rows.empty or main is None:
        return [missing_claim(*texts, "no runs") for texts in zip(names, statements, rules, strict=True)]
    known = data.runs(main)
    known = known[known.tokenizer_choice.isin(rows.tokenizer_choice) & known.choice.isin(rows.choice)]
    inside = _inside(names[0], statements[0], rules[0], known, rows)
    known = pd.concat([data.tokenizer_runs(main), known])
    advised = [_advised(known, rows, length.value) for length in grid.lengths if length.unit == "flops"]
    regret = mean_of_seeds([math.log(one / best) for one, best, _ in filter(None, advised)])
    others = [math.log(mean / best) for _, best, mean in filter(None, advised)]
    note = (
        f"an option picked at random: {np.mean(others):.2f}"
        if others
        else "no budget for which what advice says was trained"
    )
    return [
        inside,
        make_claim(names[1], statements[1], rules[1], regret, below(regret, 0.1), note, REGRET, rows.seed.nunique()),
    ]


def _advised(known: pd.DataFrame, rows: pd.DataFrame, flops: float) -> tuple[float, float, float] | None:
    """Return gFMD at a generator budget: of the advised option, of the best option, and the geometric mean of all options."""
    runs = rows[(rows.train_flops / flops - 1).abs() < SAME_BUDGET]
    if runs.empty:
        return None
    gfmd = runs.groupby(["tokenizer_choice", "choice"]).gfmd.mean()
    try:
        best = advise(known, float(runs.total_flops.max())).best
    except UserError:
        return None
    key = (best.tokenizer["tokenizer_choice"], best.generator)
    return (float(gfmd[key]), float(gfmd.min()), float(np.exp(np.log(gfmd).mean()))) if key in gfmd else None
