"""The rate that converts a budget in hours into FLOPs."""

import math
from typing import Any

from vistok.errors import UserError
from vistok.space import Space, token_grid
from vistok.study.findings.advice_source import AdviceSource
from vistok.study.findings.table import generators

# From this factor on, two rates are told apart.
APART = 1.5


def measured_rate(source: AdviceSource) -> float:
    """Measure, on this machine, the training FLOPs per second of the largest generator in a study's table.

    Where some write tokens and others vectors, of the largest of each, and the slower counts. Raises UserError if configs are not
    known.
    """
    from vistok.verbs.step_time import training_rate

    rows, rates = generators(source.table), []
    for _, of_kind in rows.groupby(rows.codebook_size.isna()):
        largest = of_kind.iloc[int(of_kind.params.to_numpy(float).argmax())]
        config, space = source.generator(str(largest.choice)), _space(source, largest)
        if config is not None and space is not None:
            rates.append(training_rate(config, space))
    if not rates:
        raise UserError(
            f"{source.name} holds no records of generators, which a budget in hours needs; give the budget in FLOPs"
        )
    return min(rates)


def recorded_rate(source: AdviceSource) -> float:
    """Return the training FLOPs per second of a study's generators, their median, on the machines that it ran on."""
    rows = generators(source.table)
    return float((rows.train_flops / rows.seconds).median())


def rate_lines(budget: str, flops: float, rate: float, recorded: float) -> list[str]:
    """Return sentences on what a budget in hours is here, and at the rate of the study's runs where that differs much."""
    lines = [
        f"{budget} is {flops:.3g} FLOPs at {rate / 1e9:.1f} GFLOP/s, measured on this machine for some seconds just now (the study's runs: "
        f"{recorded / 1e9:.1f})."
    ]
    if not 1 / APART < rate / recorded < APART:
        why = "Is something else running here?" if rate < recorded else "This machine is faster than theirs."
        lines.append(f"{why} At the rate of the study's runs it would be {flops * recorded / rate:.3g} FLOPs.")
    return lines


def _space(source: AdviceSource, row: Any) -> Space | None:
    """Return what a generator writes; None for vectors of a tokenizer that is not known."""
    run = source.tokenizer(str(row.tokenizer_choice))
    if run is not None:
        network = run.tokenizer
        same = math.isnan(row.image_size) or int(row.image_size) == network.image_size
        return network.space if same else network.at(int(row.image_size)).space
    if math.isnan(row.codebook_size):
        return None
    side = round(float(row.num_tokens) ** 0.5)
    return token_grid(side, side, int(row.codebook_size))
