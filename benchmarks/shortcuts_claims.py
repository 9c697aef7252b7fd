"""The claims of results/shortcuts and their rules, set before the first student was trained (G3, Y2's spread and H: before theirs)."""

import math
from collections.abc import Sequence

import pandas as pd
from judging import judged
from scipy import stats

from vistok.study.findings.verdict import (
    FAILS,
    HOLDS,
    LOG_RATIO,
    OPEN,
    SHARE,
    Claim,
    Estimate,
    Verdict,
    above,
    below,
    mean_of_seeds,
    missing_claim,
)

SCALE, SCALES = 1.75, (1.0, 1.75, 3.0, 5.0)
INTERVAL = "95 % t-interval over the student's seeds"


def claims_of(rows: pd.DataFrame, times: pd.DataFrame) -> list[Claim]:
    """Return every claim; those without runs are open. `times`: arm, steps, solver, scale, milliseconds (a list)."""
    return [*_guided(rows), *_halved(rows, times), *_one_call(rows), *_targets(rows), *_rewards(rows)]


def of(rows: pd.DataFrame, arm: str, steps: int, scale: float = SCALE, solver: str = "") -> pd.DataFrame:
    """Return an arm's rows for one way to draw, a row for each seed."""
    chosen = rows[(rows.arm == arm) & (rows.steps == steps) & (rows.scale == scale)]
    return (chosen[chosen.solver == solver] if solver else chosen).set_index("seed").sort_index()


def _ratio(
    claim: str,
    statement: str,
    ours: pd.DataFrame,
    theirs: pd.DataFrame,
    most: float,
    names: str,
    column: str = "gfmd_corrected",
) -> Claim:
    """Judge a ratio that may be at most `most`: to the teacher's one value, or paired by seed where there are several."""
    rule = f"effect: mean of log({column} of {names}), {INTERVAL}; holds below log {most:g}, fails above"
    logs: list[float] = []
    if len(ours) and len(theirs):
        base = _logs(theirs[column])
        # The teacher is one, and stands beside every seed; other arms are paired by seed.
        logs = list(_logs(ours[column]) - (base.iloc[0] if theirs.arm.iloc[0] == "teacher" else base))
    found = mean_of_seeds([value for value in logs if math.isfinite(value)])
    return judged(
        claim, statement, rule, found, below(found, math.log(most)), f"{column.split('_')[0]} of {names}", LOG_RATIO
    )


def _logs(values: "pd.Series[float]") -> "pd.Series[float]":
    return values.astype(float).map(math.log)


def _difference(
    claim: str, statement: str, rows: pd.DataFrame, ours: str, theirs: str, column: str, over: float = 0.0
) -> Claim:
    """Judge a difference of two arms in one call, paired by seed, that must be above `over`."""
    scales = {arm: (1.0 if arm in ("self-cooperative", "against-data") else SCALE) for arm in (ours, theirs)}
    pairs = [of(rows, arm, 1, scales[arm])[column] for arm in (ours, theirs)]
    found = mean_of_seeds(list((pairs[0] - pairs[1]).dropna()))
    rule = f"effect: mean of {column} of {ours} minus that of {theirs}, one call, {INTERVAL}; holds above {over:g}, fails below"
    return judged(claim, statement, rule, found, above(found, over), f"{column} of {ours} - of {theirs}", SHARE)


def _guided(rows: pd.DataFrame) -> list[Claim]:
    return [
        _ratio(
            f"G1 scale {scale:g}", "The guided student in half of the calls is within 5 % of its teacher.",
            of(rows, "guided", 20, scale), of(rows, "teacher", 20, scale, "multistep"), 1.05, "guided, 20 steps / teacher, 20 steps",
        )
        for scale in SCALES
    ]  # fmt: skip


def _halved(rows: pd.DataFrame, times: pd.DataFrame) -> list[Claim]:
    four, statement = (
        of(rows, "halved-4", 4),
        "Halved to four calls, it stays near the teacher's 50 steps and far below its four.",
    )
    return [
        _ratio("G2 50 steps", statement, four, of(rows, "teacher", 50, solver="multistep"), 1.15, "halved, 4 steps / teacher, 50 steps"),
        _ratio("G2 4 steps", statement, four, of(rows, "teacher", 4, solver="euler"), 0.5, "halved, 4 steps / teacher, 4 Euler steps"),
        _order(rows),
        _faster(times),
    ]  # fmt: skip


def _order(rows: pd.DataFrame) -> Claim:
    """Judge G3: Kendall's tau of accuracies over the scales, student's beside teacher's."""
    claim, statement = "G3", "Accuracy of the four-call student rises and falls with the scale in the teacher's order."
    rule = (
        "effect: Kendall's tau of accuracy at the four scales, student beside teacher (20 steps), mean over seeds; holds if it is 1 "
        "in every seed, fails if in none, else open; at least three seeds"
    )
    teacher = [of(rows, "teacher", 20, scale, "multistep").accuracy for scale in SCALES]
    student = pd.concat([of(rows, "halved-4", 4, scale).accuracy for scale in SCALES], axis=1).dropna()
    if student.empty or any(part.empty for part in teacher):
        return missing_claim(claim, statement, rule, "not run")
    theirs = [float(part.iloc[0]) for part in teacher]
    taus = [float(stats.kendalltau(theirs, list(values)).statistic) for values in student.to_numpy()]
    same = [tau > 0.999 for tau in taus]
    found = mean_of_seeds(taus)
    return judged(
        claim,
        statement,
        rule,
        found,
        Verdict(HOLDS if all(same) else OPEN if any(same) else FAILS),
        "Kendall's tau",
        "",
    )


def _faster(times: pd.DataFrame) -> Claim:
    """Judge G4: milliseconds of an image, three runs of each."""
    rule = (
        f"effect: mean of log(milliseconds of halved, 4 steps / of teacher, 50 multistep steps, guidance {SCALE:g}), one thread, 95 % "
        "t-interval over three timed runs of 100 images; holds below log 1/20, fails above"
    )
    logs: Sequence[float] = []
    if len(times):
        ours = times[(times.arm == "halved-4") & (times.scale == SCALE)].milliseconds
        theirs = times[
            (times.arm == "teacher") & (times.steps == 50) & (times.solver == "multistep") & (times.scale == SCALE)
        ].milliseconds
        if len(ours) and len(theirs):
            logs = [math.log(a / b) for a, b in zip(ours.iloc[0], theirs.iloc[0], strict=True)]
    found = mean_of_seeds(logs)
    statement = "Four calls draw an image in a twentieth of the time or less."
    return judged(
        "G4",
        statement,
        rule,
        found,
        below(found, math.log(1 / 20)),
        "milliseconds, 4 calls / 50 steps with guidance",
        LOG_RATIO,
    )


def _one_call(rows: pd.DataFrame) -> list[Claim]:
    found = []
    statement = "In one call it is at most half of the teacher's one step, and at most 1.5 times its 50 steps."
    for claim, arm, scale in (("Y1", "self-cooperative", 1.0), ("I1", "pseudo-huber", SCALE)):
        for steps, solver, most in ((1, "euler", 0.5), (50, "multistep", 1.5)):
            ours, theirs = of(rows, arm, 1, scale), of(rows, "teacher", steps, solver=solver)
            name = f"{claim} {steps} step{'s' if steps > 1 else ''}"
            found.append(_ratio(name, statement, ours, theirs, most, f"{arm}, 1 call / teacher, {steps}"))
    return found


def _targets(rows: pd.DataFrame) -> list[Claim]:
    statement = "Self-cooperative targets keep more recall than data as targets."
    return [_difference("Y2.recall", statement, rows, "self-cooperative", "against-data", "recall"), _spread(rows)]


def _spread(rows: pd.DataFrame) -> Claim:
    """Judge Y2's other half: the spread of log gFMD over seeds, with the F-interval of two deviations' ratio."""
    rule = (
        "effect: log(standard deviation over seeds of log gfmd_corrected, self-cooperative / against-data), one call, 95 % F-interval "
        "(normal logs); holds below 0, fails above"
    )
    statement = "Self-cooperative targets vary less over seeds than data as targets."
    logs = [_logs(of(rows, arm, 1, 1.0).gfmd_corrected) for arm in ("self-cooperative", "against-data")]
    n = min(map(len, logs))
    if n < 2:
        return missing_claim("Y2.spread", statement, rule, "not run" if n == 0 else "one seed")
    value = math.log(float(logs[0].std()) / float(logs[1].std()))
    low, high = (value - 0.5 * math.log(stats.f.ppf(q, len(logs[0]) - 1, len(logs[1]) - 1)) for q in (0.975, 0.025))
    found = Estimate(value, low, high, n)
    return judged(
        "Y2.spread",
        statement,
        rule,
        found,
        below(found),
        "spread of log gFMD, self-cooperative / against data",
        LOG_RATIO,
    )


def _rewards(rows: pd.DataFrame) -> list[Claim]:
    plain, reward, absurd = (of(rows, arm, 1) for arm in ("pseudo-huber", "pseudo-huber-reward", "pseudo-huber-absurd"))
    statement = "A class reward raises accuracy by a network that it has not seen, with gFMD and recall within 10 %."
    hacked = "A thousand times that reward raises accuracy further, while gFMD at least doubles: the reward is hacked."
    least = _ratio("I2.recall", statement, plain, reward, 1.1, "pseudo-huber / with the reward, 1 call", "recall")
    doubled = _ratio("H.gfmd", hacked, plain, absurd, 0.5, "pseudo-huber / with 1,000 times the reward, 1 call")
    return [
        _difference("I2.accuracy", statement, rows, "pseudo-huber-reward", "pseudo-huber", "accuracy"),
        _ratio("I2.gfmd", statement, reward, plain, 1.1, "pseudo-huber with the reward / without, 1 call"),
        least,
        _difference("I3", "At equal reward pseudo-Huber keeps at least the recall of integral KL.", rows, "pseudo-huber-reward", "integral-kl-reward", "recall"),
        _difference("H.accuracy", hacked, rows, "pseudo-huber-absurd", "pseudo-huber-reward", "accuracy"),
        doubled,
    ]  # fmt: skip
