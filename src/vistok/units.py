"""Durations with a unit ("1500 steps", "40 epochs", "1e15 flops"), converted to steps once."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import model_serializer, model_validator

from vistok.config import Config
from vistok.errors import printable

Unit = Literal["steps", "images", "epochs", "tokens", "flops", "percent"]
UNITS: tuple[str, ...] = Unit.__args__  # type: ignore[attr-defined]


# As people write units -> the unit; a bare number counts steps.
_UNITS = {
    **{word: unit for unit in UNITS for word in (unit, unit.removesuffix("s"))},
    **{"": "steps", "it": "steps", "iterations": "steps", "imgs": "images", "ep": "epochs", "%": "percent"},
}
# As people write units of time -> seconds.
_SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
_THOUSANDS = {"": 1.0, "k": 1e3}
_PREFIXES = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "t": 1e12, "p": 1e15, "e": 1e18}
_DURATION = r"\s*(?P<number>[0-9.,eE+_-]*[0-9.])(?P<thousands>[kK]?)\s*(?P<unit>[A-Za-z%]*)\s*"


def _not_a_duration(found: Any, unit: str) -> str:
    """Return what is wrong with text that is not a duration, and what to write."""
    write = f'write "<number> <unit>", where the unit is one of {", ".join(UNITS)}'
    if unit.lower() in _SECONDS:
        return (
            f"{printable(repr(found))} is a time, which another machine would turn into another run; {write} (--dry-run says how "
            "long that takes here, and vistok start FOLDER --for 1h plans by the clock)"
        )
    return f"{printable(repr(found))[:80]} is not a duration; {write}"


@dataclass(frozen=True)
class Scale:
    """The numbers that convert a run's units to steps.

    `flops_per_step` lists pairs (first step, FLOPs per step from there on): the cost changes when a phase begins.
    `total_steps` is only needed for percentages.
    """

    batch_size: int
    num_images: int
    tokens_per_image: int = 1
    flops_per_step: Sequence[tuple[int, float]] = ()
    total_steps: int = 0


class Duration(Config):
    """A length of training, written as "<number> <unit>"; units: steps, images, epochs, tokens, flops. A bare number is steps.

    "percent" (of the whole run) is for parts of a run: warm-up, ramps, starting points. "10k steps", "1 epoch", "8 TFLOPs" and "5%"
    are read as they are meant.
    """

    value: float
    unit: Unit

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, data: Any) -> Any:
        if isinstance(data, int | float) and not isinstance(data, bool):
            return {"value": float(data), "unit": "steps"}
        if isinstance(data, dict | cls):
            return data
        match = re.fullmatch(_DURATION, data) if isinstance(data, str) else None
        unit = _UNITS.get(match["unit"].lower()) if match else None
        if unit is None and isinstance(data, str) and (flops := flops_in(data)) is not None:
            return {"value": flops, "unit": "flops"}
        if match is None or unit is None:
            raise ValueError(_not_a_duration(data, match["unit"] if match else ""))
        try:
            number = float(_digits(match["number"]))
        except ValueError:
            raise ValueError(f"{match['number']!r} in the duration {data!r} is not a number") from None
        return {"value": number * _THOUSANDS[match["thousands"].lower()], "unit": unit}

    @model_validator(mode="after")
    def _positive(self) -> "Duration":
        if not math.isfinite(self.value) or self.value < 0:
            raise ValueError(f"a duration must be a finite number >= 0, found {self.value}")
        return self

    @model_serializer
    def _to_text(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"{self.value:.10g} {self.unit}"

    def to_steps(self, scale: Scale) -> int:
        """Return the whole number of optimizer steps; FLOPs round down, all other units round up."""
        per_step = {
            "steps": 1.0,
            "images": scale.batch_size,
            "epochs": scale.batch_size / max(scale.num_images, 1),
            "tokens": scale.batch_size * scale.tokens_per_image,
            "percent": 100.0 / max(scale.total_steps, 1),
        }
        if self.unit == "flops":
            return steps_for_flops(self.value, scale.flops_per_step)
        return math.ceil(self.value / per_step[self.unit] - 1e-9)


def _digits(number: str) -> str:
    """Return a number without commas between its thousands."""
    return number.replace(",", "") if re.fullmatch(r"[0-9]{1,3}(,[0-9]{3})+", number) else number


def seconds_in(text: str) -> float | None:
    """Return the seconds in "30m", "90 minutes", "1.5h", "1h30m" or "2 days"; None if it is anything else, or not above 0."""
    part = r"((?>[0-9.]+))\s*([a-z]+)\s*"
    written = text.lower().strip()
    if not re.fullmatch(f"(?:{part})+", written):
        return None
    try:
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in re.findall(part, written))
    except (ValueError, KeyError):  # 1..5h, or weeks
        return None
    return seconds if 0 < seconds < math.inf else None


def flops_in(text: str) -> float | None:
    """Return the FLOPs in "2e14 flops", "1,000 TFLOPs" or "200 T flops"; None if it is anything else, or not above 0."""
    written = re.fullmatch(r"\s*([0-9.,]+(?:e[+-]?[0-9]+)?)\s*([kmgtpe]?)\s*flops?\s*", text.lower())
    try:
        flops = float(_digits(written[1])) * _PREFIXES[written[2]] if written else math.nan
    except ValueError:  # 1..5
        return None
    return flops if 0 < flops < math.inf else None


def steps(count: int) -> Duration:
    """Return a duration in optimizer steps."""
    return Duration(value=float(count), unit="steps")


def percent(share: float) -> Duration:
    """Return a duration as a percentage of the run."""
    return Duration(value=float(share), unit="percent")


def total_flops(num_steps: int, flops_per_step: Sequence[tuple[int, float]]) -> float:
    """Return the training FLOPs of the first `num_steps` steps."""
    total = 0.0
    for (start, flops), end in zip(flops_per_step, _ends(flops_per_step, num_steps), strict=True):
        total += flops * max(0, min(end, num_steps) - start)
    return total


def steps_for_flops(budget: float, flops_per_step: Sequence[tuple[int, float]]) -> int:
    """Return the largest number of steps that costs at most `budget` FLOPs."""
    spent = 0.0
    for (start, flops), end in zip(flops_per_step, _ends(flops_per_step, None), strict=True):
        # A hair of slack, as a duration's text keeps only ten digits: the cost of n steps must buy n steps.
        affordable = math.floor((budget * (1 + 1e-9) - spent) / flops)
        if end is None or start + affordable < end:
            return start + max(affordable, 0)
        spent += flops * (end - start)
    raise ValueError("the cost of a step is unknown here, so FLOPs cannot be converted to steps")


def _ends(flops_per_step: Sequence[tuple[int, float]], last: Any) -> list[Any]:
    return [start for start, _ in flops_per_step[1:]] + [last] if flops_per_step else []
