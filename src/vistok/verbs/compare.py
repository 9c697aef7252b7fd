"""Two runs' scores side by side, as far as their protocols allow it."""

from pathlib import Path

from vistok.engine.run_dir import RunDir
from vistok.errors import UserError
from vistok.metrics.cost import cost_in
from vistok.metrics.protocol import Score, Treatment, differences
from vistok.runs.health.gate import alarms_of
from vistok.scoring.evaluators import SCHEMA, read_evaluation, scores_in

WIDTH = 46


def scores_of(run: Path) -> list[Score]:
    """Return all scores of a run. Raises UserError if there are none."""
    RunDir(run).read_config()
    scores: list[Score] = []
    for file in sorted((run / "evaluations").glob("*.json")):
        content = read_evaluation(file)
        if content.get("schema_version") == SCHEMA and content.get("kind") != "guidance":
            scores += scores_in(content)
    if not scores:
        raise UserError(f"run {run} has no scores yet; make them with vistok evaluate")
    return scores


def compare_runs(first: Path, second: Path) -> list[str]:
    """Return lines that set scores of the same protocol side by side, with the interval of the paired difference.

    Equal treatments are paired first; the rest are paired across treatments, and both are named. Sampling costs and
    the alarms that the runs ended with follow. Raises UserError if the two have no protocol in common.
    """
    left, right = scores_of(first), scores_of(second)
    rows, apart = [], []
    for metric in dict.fromkeys(score.protocol.metric for score in left):
        a = [score for score in left if score.protocol.metric == metric]
        b = [score for score in right if score.protocol.metric == metric]
        pairs = _pairs(a, b)
        rows += [_line(x, y) for x, y in pairs]
        if not pairs and b:
            fewest = min((differences(x.protocol, y.protocol) for x in a for y in b), key=len)
            apart.append(f"{metric}: {'; '.join(fewest)}")
    if not rows:
        why = "; ".join(apart) or "they share no kind of score"
        raise UserError(
            f"{first} and {second} have different protocols and cannot be compared: {why}. Evaluate both again with the "
            "same evaluator, reference and number of samples"
        )
    head = f"{'':<{WIDTH}}{first.name[-26:]:>28}{second.name[-26:]:>28}  second - first (95 % interval)"
    more = [line for run in (first, second) for line in (*cost_lines(run), *alarm_lines(run))]
    return [head, *rows, *(f"not compared: {reason}" for reason in apart), *more]


def cost_lines(run: Path) -> list[str]:
    """Return a line on the cost of drawing an image for each of a generator's evaluations."""
    lines = {}
    for file in sorted((run / "evaluations").glob("*.json")):
        content = read_evaluation(file)
        if cost := cost_in(content):
            treatment = Treatment.model_validate(content["treatment"])
            lines[str(treatment)] = f"{run.name}, {treatment}: {cost}"
    return list(lines.values())


def alarm_lines(run: Path) -> list[str]:
    """Return a line on the alarms that stood when a run ended, or nothing if it ended well."""
    alarms = ", ".join(f"{alarm.name} ({alarm.value:.3g})" for alarm in alarms_of(run))
    return [f"{run.name} ended with alarms: {alarms}"] if alarms else []


def _pairs(a: list[Score], b: list[Score]) -> list[tuple[Score, Score]]:
    fitting = [(x, y) for x in a for y in b if x.protocol == y.protocol]
    same = [(x, y) for x, y in fitting if x.treatment == y.treatment]
    used = [id(score) for pair in same for score in pair]
    # For example each run at the guidance scale that was chosen for it.
    rest = [(x, y) for x, y in fitting if id(x) not in used and id(y) not in used]
    return same + [(x, y) for x, y in rest if x.treatment.weights == y.treatment.weights]


def _line(a: Score, b: Score) -> str:
    how = str(a.treatment) if a.treatment == b.treatment else f"{a.treatment} | {b.treatment}"
    difference = b.minus(a)
    bounds = difference.interval
    interval = f" ({bounds.low:+z.4f} to {bounds.high:+z.4f})" if bounds else ""
    name = f"{a.protocol.metric} ({how})"
    return f"{name:<{WIDTH}}{_cell(a):>28}{_cell(b):>28}  {difference.value:+z.4f}{interval}"


def _cell(score: Score) -> str:
    if score.low is None or score.high is None:
        return f"{score.value:z.4f}"
    return f"{score.value:z.4f} ± {(score.high - score.low) / 2:.4f}"
