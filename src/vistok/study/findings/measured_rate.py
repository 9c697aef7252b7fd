"""The rate that converts a budget in hours into FLOPs."""

import math

from vistok.errors import UserError
from vistok.space import token_grid
from vistok.study.findings.advice_source import AdviceSource
from vistok.study.findings.table import generators


def measured_rate(source: AdviceSource) -> float:
    """Measure, on this machine, the training FLOPs per second of the largest generator in a study's table.

    Raises UserError if its config is not known, or if it writes vectors.
    """
    from vistok.verbs.step_time import training_rate

    rows = generators(source.table)
    largest = rows.iloc[int(rows.params.to_numpy(float).argmax())] if len(rows) else None
    config = None if largest is None else source.generator(str(largest.choice))
    if largest is None or config is None:
        raise UserError(
            f"{source.name} holds no records of generators, which a budget in hours needs; give the budget in FLOPs"
        )
    if math.isnan(largest.codebook_size):
        raise UserError(
            f"{source.name}: its largest generator writes vectors, whose training this command cannot time yet; give the budget in "
            "FLOPs (vistok train generator ... --dry-run counts those of a run)"
        )
    side = round(float(largest.num_tokens) ** 0.5)
    return training_rate(config, token_grid(side, side, int(largest.codebook_size)))
