"""Claims for a page: each with what was measured and in which unit, a bar of its interval beside its margins, and its rule."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from markupsafe import Markup

from vistok.page.axes import number
from vistok.page.intervals import Row, interval_bar
from vistok.page.tables import Table, named
from vistok.study.findings.verdict import FAILS, HOLDS, LOG10, LOG_RATIO, NATS, OPEN, RATIO, SHARE, SLOPE, Claim

SIGNS = {HOLDS: "✓", FAILS: "✗", OPEN: "?"}
# The number of the colour for claims that belong to no arm.
NEUTRAL = 7


class Arms(Protocol):
    """The name of each arm that claims may be about, and the number of its colour."""

    colours: dict[str, int]

    def __getitem__(self, choice: str) -> str:
        """Return an arm's name."""


@dataclass(frozen=True)
class _Shown:
    """How a unit is shown: its name, what its numbers become, what follows them, and whether their axis is logarithmic."""

    name: str
    become: Callable[[float], float]
    after: str = ""
    log: bool = False


_UNITS = {
    LOG_RATIO: _Shown("ratio", lambda x: math.exp(min(x, 700)), " times", True),
    RATIO: _Shown("ratio", float, " times", True),
    SHARE: _Shown("percent", lambda x: 100 * x, " %"),
    NATS: _Shown("nats per token", float, " nats"),
    SLOPE: _Shown("slope", float),
    LOG10: _Shown("FLOPs", lambda x: 10.0 ** min(x, 300), " FLOPs", True),
}
_PLAIN = _Shown("as its rule says", float)


def claims_view(claims: Sequence[Claim], arms: Arms) -> Markup:
    """Return the claims, those of one rule together: what is claimed and measured, then each arm's evidence and verdict."""
    groups: dict[tuple[str, str, str], list[Claim]] = {}
    for claim in claims:
        groups.setdefault((claim.claim.partition(" ")[0], claim.statement, claim.rule), []).append(claim)
    return Markup("\n").join(_group(name, statement, of, arms) for (name, statement, _), of in groups.items())


def _group(name: str, statement: str, claims: Sequence[Claim], arms: Arms) -> Markup:
    first = claims[0]
    effect = f"Effect: {first.quantity} ({_UNITS.get(first.unit, _PLAIN).name})." if first.quantity else ""
    rule = Markup("<details><summary>rule</summary><p>{}.</p></details>").format(first.rule) if first.rule else ""
    bars = [_row(claim, arms) for claim in claims if claim.effect is not None]
    table = Table(
        ["of", "interval", "effect", "verdict"],
        [[_of(claim, arms), _bar(claim, arms, bars), _effect(claim), _verdict(claim)] for claim in claims],
        words=(0, 1, 2, 3),
    )
    return Markup(
        '<div class="claim"><h3>{} <span class="quiet">{}</span></h3><p class="quiet">{}</p>{}{}</div>'
    ).format(statement, name, effect, rule, table.html())


def _of(claim: Claim, arms: Arms) -> Markup:
    choice = claim.claim.partition(" ")[2]
    name = named(arms.colours[choice], arms[choice]) if choice in arms.colours else choice
    note = f"{claim.note[0].upper()}{claim.note[1:]}." if claim.note else ""
    return Markup("{}{}").format(name, Markup('<span class="quiet">{}</span>').format(note) if note else "")


def _row(claim: Claim, arms: Arms) -> Row:
    become = _UNITS.get(claim.unit, _PLAIN).become
    value, low, high = (None if x is None else become(x) for x in (claim.effect, claim.low, claim.high))
    return Row("", value, low, high, arms.colours.get(claim.claim.partition(" ")[2], NEUTRAL), text=_told(claim))


def _bar(claim: Claim, arms: Arms, beside: Sequence[Row]) -> Markup:
    if claim.effect is None:
        return Markup("")
    shown = _UNITS.get(claim.unit, _PLAIN)
    margins = {
        _written(claim, margin) + shown.after.replace(" times", ""): shown.become(margin) for margin in claim.margins
    }
    return interval_bar(_row(claim, arms), margins, shown.log, beside)


def _effect(claim: Claim) -> Markup:
    if claim.effect is None:
        return Markup("")
    noise = "" if claim.n > 1 else " of the samples alone"
    n = f"n = {claim.n}" if claim.low is None else f"{100 * claim.confidence:.4g} % interval{noise}, n = {claim.n}"
    return Markup('{}<span class="quiet">{}</span>').format(_told(claim), n)


def _told(claim: Claim) -> str:
    """Return the effect with its interval and unit."""
    value, low, high = (_written(claim, x) for x in (claim.effect, claim.low, claim.high))
    return f"{value}{_UNITS.get(claim.unit, _PLAIN).after}" + (f" ({low} to {high})" if low and high else "")


def _written(claim: Claim, value: float | None) -> str:
    if value is None:
        return ""
    shown = _UNITS.get(claim.unit, _PLAIN).become(value)
    return number(float(f"{shown:.3g}"))


def _verdict(claim: Claim) -> Markup:
    sign = Markup('<span aria-hidden="true">{}</span>').format(SIGNS.get(claim.verdict, ""))
    return Markup('<span class="verdict {}">{} {}</span>').format(claim.verdict, sign, claim.verdict)
