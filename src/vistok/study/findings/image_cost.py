"""What an image costs to draw: the units, and where a study's table holds them."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from vistok.errors import UserError, in_digits
from vistok.metrics.cost import flops_in_words
from vistok.units import flops_in

Unit = Literal["ms", "flops"]
# Units -> the column of a study's table that holds an image's cost, and how the unit is written in full.
COLUMNS: dict[Unit, str] = {"ms": "ms_per_image", "flops": "flops_per_image"}
IN_FULL: dict[Unit, str] = {"ms": "milliseconds", "flops": "FLOPs"}
# What people write for milliseconds -> how many that is.
_TIMES = {
    **dict.fromkeys(("ms", "millisecond", "milliseconds"), 1.0),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1000.0),
}


@dataclass(frozen=True)
class PerImage:
    """The most that an image may cost: milliseconds, or FLOPs of generator and decoder together."""

    amount: float
    unit: Unit

    def __str__(self) -> str:
        return in_words(self.amount, self.unit)


def in_words(amount: float, unit: Unit) -> str:
    """Return a cost as text, with its unit."""
    return f"{in_digits(amount)} ms" if unit == "ms" else flops_in_words(amount)


def parse_per_image(text: str) -> PerImage:
    """Return what text like "20 ms" or "3 GFLOPs" means. Raises UserError if it is anything else."""
    if (flops := flops_in(text)) is not None:
        return PerImage(flops, "flops")
    found = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-z]+)\s*", text.lower())
    try:
        value = float(found[1]) * _TIMES.get(found[2], math.nan) if found else math.nan
    except ValueError:  # 1..5
        value = math.nan
    if not 0 < value < math.inf:
        raise UserError(
            f'--per-image {text!r}: give a number above 0 and a unit, as in "20 ms", "0.5 s", "300 MFLOPs" or "3 GFLOPs"'
        )
    return PerImage(value, "ms")
