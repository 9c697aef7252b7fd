"""vistok diagnose: what a tokenizer's tokens say of the generators to come."""

import json
from pathlib import Path
from typing import Annotated

import typer

from vistok.cli import options
from vistok.cli.options import Data, progress_bars, run_of, say

# Samples of tokenizers for the intervals of what figures are worth.
DRAWS = 500
# The column of gFMD that they are worth something for.
FOUND = "gfmd_1000"


def diagnose(
    tokenizer: Annotated[Path, typer.Argument(parser=run_of("tokenizer"), metavar="RUN", help=options.A_TOKENIZER)],
    data: Data = None,
    anyway: options.Anyway = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Measure a tokenizer's tokens before a generator is trained, and say what each figure has been worth in our study."""
    from vistok.scoring.diagnostics import MEANING
    from vistok.scoring.diagnostics import diagnose as measure
    from vistok.study.findings.worth import of_equal_tokens, shipped_diagnostics, standing, with_interval, worth_of

    options.require_alive(tokenizer, anyway)
    with progress_bars() as progress:
        found = measure(tokenizer, data, progress)
    table = of_equal_tokens(shipped_diagnostics())
    best, *others = worth_of(table, list(MEANING), FOUND)
    singles = [one for one in (best, *others) if len(one.names) == 1]
    alone = {one.names[0]: with_interval(one, table, FOUND, DRAWS) for one in singles}
    if as_json:
        each = {
            name: {
                "value": value,
                "worth": alone[name].correlation,
                "low": alone[name].low,
                "high": alone[name].high,
                "better": alone[name].better,
            }
            for name, value in found.items()
        }
        say(json.dumps({"diagnostics": each, "best": best.names, "worth_of_best": best.correlation}, indent=2))
        return
    say(f"{'':<11}{'value':>9}{'below it':>10}{'better':>8}{'worth':>7}{'95 %':>16}")
    for name, value in found.items():
        of, below = alone[name], standing(table, name, value)
        ends = f"{of.low:+.2f} to {of.high:+.2f}"
        say(f"{name:<11}{value:>9.4f}{below:>10.0%}{of.better:>8}{of.correlation:>+7.2f}{ends:>16}  {MEANING[name]}")
    best = with_interval(best, table, FOUND, DRAWS)
    say(
        "below it: share of the recorded tokenizers of Fashion-MNIST with a smaller value\n"
        "better: whether more or less of it went with lower gFMD; nothing where it told nothing\n"
        f"worth: rank correlation with the gFMD of generators on {best.count} of these tokenizers, each way of making them predicted "
        "from the others: 1 is the right order, 0 none, and below 0 it led astray\n"
        f"best: {' and '.join(best.names)} ({best.correlation:+.2f}; {best.low:+.2f} to {best.high:+.2f}). It is known for these "
        "tokenizers alone, all of 7x7 tokens of 512 codes."
    )
