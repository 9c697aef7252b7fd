"""Scores of any number of runs side by side, as far as their protocols allow it."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from vistok.engine.run_dir import RunDir
from vistok.errors import UserError
from vistok.metrics.cost import cost_in
from vistok.metrics.protocol import Protocol, Score, Treatment
from vistok.runs.health.gate import alarms_of
from vistok.runs.weights_file import weights_file
from vistok.scoring.evaluations import read_evaluation, stored_scores
from vistok.verbs.comparison import Comparison, Difference, Row, direction, letters


def comparison(runs: Sequence[Path]) -> Comparison:
    """Return the scores of runs side by side: in each row, those of one protocol; differences are from the first run.

    Raises UserError for fewer than two runs, for runs of different kinds or without scores, and where no two have a protocol
    in common, saying in what they differ.
    """
    _require_one_kind(runs)
    found = compare_scores({str(run): scores_of(run) for run in runs})
    notes = [line for run in runs for line in (*cost_lines(run), *alarm_lines(run))]
    return Comparison(found.runs, found.rows, (*found.notes, *notes))


def compare_scores(scores: Mapping[str, Sequence[Score]]) -> Comparison:
    """Return scores by name side by side: see `comparison`, which takes them from runs."""
    rows = [row for protocol in _protocols(scores) for row in _rows(protocol, list(scores.values()))]
    apart = _apart(scores, rows)
    if not rows:
        raise UserError(
            f"{_legend(scores)} have different protocols and cannot be compared: "
            f"{'. '.join(apart) or 'they share no kind of score'}. Evaluate all again with the same evaluator, reference and "
            "number of samples"
        )
    return Comparison(tuple(scores), tuple(rows), tuple(f"not compared: {words}" for words in apart))


def _legend(scores: Mapping[str, Sequence[Score]]) -> str:
    return ", ".join(f"{name} ({letter})" for letter, name in zip(letters(len(scores)), scores, strict=True))


def scores_of(run: Path) -> list[Score]:
    """Return all scores of a run. Raises UserError if there are none."""
    scores = stored_scores(sorted((run / "evaluations").glob("*.json")))
    if not scores:
        kind = RunDir(run).read_config().get("kind")
        weights_file(run)  # which says it if the run is not finished
        raise UserError(f"run {run} has no scores yet; make them with vistok evaluate {kind} {shlex.quote(str(run))}")
    return scores


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


def _require_one_kind(runs: Sequence[Path]) -> None:
    """Raise UserError for fewer than two runs, the same one twice, and runs of different kinds or of classifiers."""
    if len(runs) < 2:
        raise UserError("give two or more runs to compare, as in vistok compare RUN RUN; vistok runs lists them")
    places = [run.resolve() for run in runs]
    if twice := [run for run, place in zip(runs, places, strict=True) if places.count(place) > 1]:
        raise UserError(f"run {twice[0]} is named twice; name different ones")
    kinds: dict[str, list[str]] = {}
    for run in runs:
        kinds.setdefault(str(RunDir(run).read_config().get("kind")), []).append(str(run))
    if len(kinds) > 1:
        words = "; ".join(f"{', '.join(of)} {_is_a(kind, len(of))}" for kind, of in kinds.items())
        raise UserError(
            f"these runs are of different kinds, whose scores mean different things: {words}; compare runs of one kind"
        )
    if "classifier" in kinds:
        raise UserError(
            f"{', '.join(kinds['classifier'])} are classifiers, which score others and have no scores to compare"
        )


def _is_a(kind: str, count: int) -> str:
    return f"is a {kind}" if count == 1 else f"are {kind}s"


def _protocols(scores: Mapping[str, Sequence[Score]]) -> list[Protocol]:
    return list(dict.fromkeys(score.protocol for of_one in scores.values() for score in of_one))


def _rows(protocol: Protocol, scores: Sequence[Sequence[Score]]) -> list[Row]:
    """Return the rows of a protocol, averaged and raw weights apart. Networks of others have their only weights.

    First come treatments that two or more runs share. A run without such a treatment is put there with another one of its
    own, such as the guidance that was chosen for it; whatever two or more runs have left stands side by side, too.
    """
    rows = []
    for kinds in (("ema", "none"), ("raw",)):
        left = [
            {
                str(score.treatment): score
                for score in of_one
                if score.protocol == protocol and score.treatment.weights in kinds
            }
            for of_one in scores
        ]
        ways = dict.fromkeys(way for of_one in left for way in of_one)
        shared = [way for way in ways if sum(way in of_one for of_one in left) > 1]
        cells = [[of_one.pop(way, None) for of_one in left] for way in shared]
        for row in cells:
            for i, of_one in enumerate(left):
                if row[i] is None and of_one:
                    row[i] = of_one.pop(next(iter(of_one)))
        while sum(map(bool, left)) > 1:
            cells.append([of_one.pop(next(iter(of_one))) if of_one else None for of_one in left])
        rows += [_row(protocol, row) for row in cells]
    return rows


def _row(protocol: Protocol, scores: Sequence[Score | None]) -> Row:
    first = next(score for score in scores if score is not None)
    found = [Difference.of(score, first) if score is not None and score is not first else None for score in scores]
    return Row(protocol, tuple(scores), tuple(found), _better(protocol.metric, scores))


def _better(metric: str, scores: Sequence[Score | None]) -> int | None:
    """Return the index of the score that is better than every other one, by the interval of their paired difference."""
    sign = direction(metric)
    there = [(i, score) for i, score in enumerate(scores) if score is not None]
    if not sign:
        return None
    best, of_best = max(there, key=lambda item: sign * item[1].value)
    settled = all(Difference.of(of_best, score).settled for i, score in there if i != best)
    return best if settled else None


def _apart(scores: Mapping[str, Sequence[Score]], rows: Sequence[Row]) -> list[str]:
    """Say which scores that several runs have are in no row, and why: metrics that differ alike in one line."""
    names = letters(len(scores))
    reasons: dict[str, list[str]] = {}
    for metric in dict.fromkeys(protocol.metric for protocol in _protocols(scores)):
        having = [[score for score in of_one if score.protocol.metric == metric] for of_one in scores.values()]
        shown = {i for row in rows if row.metric == metric for i, score in enumerate(row.scores) if score is not None}
        first, *others = sorted(shown) or [i for i, of_one in enumerate(having) if of_one]
        for i, of_one in enumerate(having):
            if of_one and i != first and i not in shown:
                why = min((_differing(a.protocol, b.protocol) for a in of_one for b in having[first]), key=len)
                reasons.setdefault(f"{names[i]} and {names[first]}: {why}", []).append(metric)
    return [f"{', '.join(metrics)} of {reason}" for reason, metrics in reasons.items()]


def _differing(a: Protocol, b: Protocol) -> str:
    """Say in what two protocols differ."""
    differing = {name for name in Protocol.model_fields if getattr(a, name) != getattr(b, name)}
    words = []
    if differing & {"extractor", "extractor_digest"}:
        words.append(_not("evaluator", a.extractor, b.extractor))
    if differing & {"reference", "reference_digest"}:
        words.append(_not("reference", a.reference, b.reference))
    words += [
        f"{getattr(a, name):,} {what}, not {getattr(b, name):,}"
        for name, what in (("num_samples", "images"), ("num_reference", "reference images"))
        if name in differing and not (name == "num_reference" and "reference_digest" in differing)
    ]
    return "; ".join(words or (_not(name, getattr(a, name), getattr(b, name)) for name in sorted(differing)))


def _not(what: str, found: str, wanted: str) -> str:
    """Return "evaluator x, not y"; of the same name: "another evaluator x"."""
    return f"{what} {found}, not {wanted}" if found != wanted else f"another {what} {found}"
