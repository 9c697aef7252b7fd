"""A study's answer in three sentences, from its claims and its table: what is settled, what is not, and by which measure."""

from collections.abc import Sequence

import pandas as pd

from vistok.study.findings.arms import Arms
from vistok.study.findings.claim_data import CELL, by_family, length_in_words
from vistok.study.findings.effects import Effect, effect, lower_by
from vistok.study.findings.headline import GUIDED, SECOND, UNGUIDED, headline
from vistok.study.findings.scored_by import ScoredBy
from vistok.study.findings.verdict import FAILS, HOLDS, OPEN, Claim

# The confidence of an interval that need not be told.
USUAL = 0.95
# Characters of claims that are named within a sentence; longer ones are only counted.
READABLE = 200


def answer(arms: Arms, rows: pd.DataFrame, claims: Sequence[Claim], by: ScoredBy) -> list[str]:
    """Return at most three sentences, and one for each further family; `rows` are the main grid's generators."""
    families, first = by_family(rows), _compute(arms, claims)
    if len(families) > 1:
        cells = [_cells(arms, of, claims, f"With {family} generators, in") for family, of in families.items()]
    else:
        told, against = _against(arms, rows, claims)
        first, cells = first + against, [_cells(arms, rows, claims, told=told)]
    sentences = [first, *cells, _limits(claims, by)]
    return [sentence for sentence in sentences if sentence]


def _compute(arms: Arms, claims: Sequence[Claim]) -> str:
    """Say what the claims on compute for equal gFMD found; nothing if the study has none."""
    guided, unguided = (headline(claims, names) for names in (GUIDED, UNGUIDED))
    if not guided:
        return ""
    base, needs = arms[arms.baseline], "of the generator's compute"
    settled = [claim for claim in guided if claim.verdict != OPEN]
    if settled:
        said = f"For equal gFMD {_needs(arms, settled, f' {needs} than {base}')}"
        rest = [arms[_choice(claim)] for claim in guided if claim.verdict == OPEN]
        said += f"; for {listed(rest)} that is open" if rest else ""
    else:
        said = (
            f"It is open whether any tokenizer saves {needs.removeprefix('of ')} at the chosen guidance: for equal gFMD "
            f"{_needs(arms, guided[:1], f' of it than {base}')}"
        )
        if guided[0].note.startswith("not judged"):
            said += f"; {guided[0].note}"
    settled = [claim for claim in unguided if claim.verdict != OPEN]
    if settled and [claim.effect for claim in guided] != [claim.effect for claim in unguided]:
        late = settled[0].rule.startswith("exploratory")
        added = ", by a measure added after the first runs," if late else ""
        said += f"; without guidance{added} {_needs(arms, settled)}"
    said += _by_the_second(arms, claims, guided)
    levels = {_level(claim) for claim in [*guided, *unguided]}
    if len(levels) == 1 and (level := levels.pop()) and said.count(level) > 1:  # told once, of all
        before, _, after = said.partition(level)
        said = f"{before}, all{level.removeprefix(',')}{after.replace(level, '')}"
    return f"{said}."


def _against(arms: Arms, rows: pd.DataFrame, claims: Sequence[Claim]) -> tuple[list[str], str]:
    """Return the arms whose compute is settled by the test images, and what held-out training images say against it, if anything."""
    settled = [_choice(claim) for claim in headline(claims, GUIDED) if claim.verdict != OPEN]
    found = [one for name in settled if (one := effect(rows, arms.baseline, name, "gfmd"))]
    against = _other_set(arms, rows, found)
    return settled, f" But that is by the test images alone{against}." if against else ""


def _by_the_second(arms: Arms, claims: Sequence[Claim], guided: Sequence[Claim]) -> str:
    """Say for which arms the second evaluator finds otherwise; nothing where it agrees, or where there is none."""
    verdicts = {_choice(claim): claim.verdict for claim in guided}
    other = [claim for claim in headline(claims, SECOND) if claim.verdict != verdicts.get(_choice(claim))]
    settled = [claim for claim in other if claim.verdict != OPEN]
    said = f"; by the second evaluator {_needs(arms, settled)}" if settled else ""
    unsettled = [arms[_choice(claim)] for claim in other if claim.verdict == OPEN]
    return said + (f"; by the second evaluator that is open for {listed(unsettled)}" if unsettled else "")


def _needs(arms: Arms, claims: Sequence[Claim], than: str = "") -> str:
    """Say how many times less (or more) compute each arm needs."""
    parts = []
    for i, claim in enumerate(claims):
        effect, low, high = claim.effect or 1.0, claim.low, claim.high
        word = "less" if effect >= 1 else "more"
        if effect < 1:
            effect, low, high = 1 / effect, high and 1 / high, low and 1 / low
        ends = (
            f"{low:.2f} to {high:.2f}{_level(claim)}" if low and high else "one seed" if claim.n == 1 else "no interval"
        )
        parts.append(f"{arms[_choice(claim)]} needs {effect:.2f} times {word}{than if i == 0 else ''} ({ends})")
    return listed(parts)


def _level(claim: Claim) -> str:
    return "" if claim.confidence == USUAL else f", {100 * claim.confidence:.4g} %"


def _choice(claim: Claim) -> str:
    return claim.claim.partition(" ")[2]


def _cells(
    arms: Arms, rows: pd.DataFrame, claims: Sequence[Claim], begins: str = "In", told: Sequence[str] = ()
) -> str:
    """Say how gFMD differs from the baseline's in the mean over cells. `told`: of these, what held-out images say stands before."""
    base = arms[arms.baseline]
    found = [one for name in arms.main if name != arms.baseline and (one := effect(rows, arms.baseline, name, "gfmd"))]
    if not len(rows):
        return "There are no generators yet, so nothing is said about generation."
    if not found:
        best = rows.iloc[int(rows.gfmd.to_numpy(float).argmin())]
        return f"There is nothing to compare with {base}: the lowest gFMD, {best.gfmd:.2f}, is that of {best.run}."
    cells, most = max(one.cells for one in found), max(one.found.n for one in found)
    where = f"{begins} the mean over {cells} cells (generator and length)" if cells > 1 else _one_cell(rows, begins)
    settled, unsettled = ([one for one in found if one.settled == yes] for yes in (True, False))
    if most < 2:
        said = listed([f"{lower_by(one)} with {arms[one.arm]}" for one in found])
        return f"{where} gFMD is {said} than with {base}, but of one tokenizer seed: another may differ by more."
    claimed = all(any(c.quantity == f"gFMD of {one.arm} / of {arms.baseline}" for c in claims) for one in found)
    aside = f"95 % over {_seeds([*settled, *unsettled])}{'' if claimed else '; not a claim fixed beforehand'}"
    aside += _other_set(arms, rows, [one for one in found if one.arm not in told])
    if not settled:
        said = listed([f"{lower_by(one)} with {arms[one.arm]}" for one in unsettled])
        return f"{where} the difference in gFMD to {base} is not settled: {said} ({aside})."
    said = listed([f"{lower_by(one)} with {arms[one.arm]}" for one in settled])
    rest = f"; with {listed([arms[one.arm] for one in unsettled])} that is not settled" if unsettled else ""
    return f"{where} gFMD is {said} than with {base}{rest} ({aside})."


def _seeds(effects: Sequence[Effect]) -> str:
    """Return over how many tokenizer seeds effects were found: one number, or each one's where they differ."""
    counts = [str(one.found.n) for one in effects]
    return f"{listed(counts if len(set(counts)) > 1 else counts[:1])} tokenizer seeds"


def _one_cell(rows: pd.DataFrame, begins: str) -> str:
    if rows.groupby(CELL).ngroups > 1:
        return f"{begins} the only cell (generator and length) that both have,"
    return f"{begins} the main grid's only cell (generator {rows.choice.iloc[0]}, {length_in_words(rows)}),"


def _other_set(arms: Arms, rows: pd.DataFrame, found: Sequence[Effect]) -> str:
    """Say for which arms the held-out training images, which chose the guidance, point the other way."""
    against = [
        f"{lower_by(other).partition(' (')[0]} with {arms[one.arm]}"
        for one in found
        if (other := effect(rows, arms.baseline, one.arm, "gfmd_val")) and other.found.value * one.found.value < 0
    ]
    return f"; against held-out training images gFMD is {listed(against)}" if against else ""


def _limits(claims: Sequence[Claim], by: ScoredBy) -> str:
    sentence = by.sentence()
    if not claims:
        return f"{sentence}."
    counts = [sum(claim.verdict == verdict and claim.n > 0 for claim in claims) for verdict in (HOLDS, FAILS, OPEN)]
    counts.append(sum(claim.n == 0 for claim in claims))
    words = (("holds", "hold"), ("fails", "fail"), ("is open", "are open"), ("has no evidence", "have no evidence"))
    which = [_statements(claims, HOLDS), _statements(claims, FAILS), "", ""]
    said = listed([f"{count} {words[i][count != 1]}{which[i]}" for i, count in enumerate(counts) if count or i < 3])
    return f"Of {len(claims)} claim{'s' * (len(claims) > 1)}, {said}; {sentence}."


def _statements(claims: Sequence[Claim], verdict: str) -> str:
    """Return what the claims with a verdict state, each statement once, in parentheses; nothing where these are too many to read."""
    found = list(dict.fromkeys(claim.statement.rstrip(".") for claim in claims if claim.verdict == verdict))
    text = "; ".join(found)
    return f" ({text})" if 0 < len(text) <= READABLE else ""


def listed(parts: Sequence[str]) -> str:
    """Return `a`, `a and b`, or `a, b and c`."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def multiplicity(claims: Sequence[Claim]) -> str:
    """Say how many claims rest on an interval, and how many of these miss the truth by chance alone."""
    judged = [claim for claim in claims if claim.low is not None and claim.n > 1]
    if not judged:
        return f"{len(claims)} claims were looked at, none of them with an interval over more than one seed."
    missed = sum(1 - claim.confidence for claim in judged)
    expected = f"{missed:.0f}" if missed >= 1.5 else "one" if missed >= 0.75 else f"{missed:.1f}"
    return (
        f"{len(claims)} claims were looked at, {len(judged)} of them by an interval over seeds, budgets or runs. Nothing is "
        f"corrected for their number: of {len(judged)} such intervals, about {expected} would miss the truth by chance alone, so a "
        "claim that holds narrowly is weak evidence."
    )
