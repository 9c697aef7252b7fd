"""vistok diagnose: what a tokenizer's tokens say of the generators to come."""

import json
from pathlib import Path
from typing import Annotated

import typer

from vistok.cli import options
from vistok.cli.options import Data, progress_bars, run_of, say


def diagnose(
    tokenizer: Annotated[Path, typer.Argument(parser=run_of("tokenizer"), metavar="RUN", help=options.A_TOKENIZER)],
    data: Data = None,
    anyway: options.Anyway = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Measure a tokenizer's tokens before a generator is trained, and say what each figure has been worth in our study."""
    from vistok.scoring.diagnostics import MEANING
    from vistok.scoring.diagnostics import diagnose as measure
    from vistok.study.findings.worth import of_equal_tokens, shipped_diagnostics, standing, worth_of

    options.require_alive(tokenizer, anyway)
    with progress_bars() as progress:
        found = measure(tokenizer, data, progress)
    table = of_equal_tokens(shipped_diagnostics())
    worth = worth_of(table, list(MEANING), "gfmd_1000")
    alone = {one.names[0]: one for one in worth if len(one.names) == 1}
    if as_json:
        each = {name: {"value": value, "worth": alone[name].correlation} for name, value in found.items()}
        say(json.dumps({"diagnostics": each, "best": worth[0].names, "worth_of_best": worth[0].correlation}, indent=2))
        return
    say(f"{'':<11}{'value':>9}{'worth':>8}{'below it':>10}")
    for name, value in found.items():
        below = standing(table, name, value)
        say(f"{name:<11}{value:>9.4f}{alone[name].correlation:>+8.2f}{below:>10.0%}  {MEANING[name]}")
    say(
        "below it: share of the recorded tokenizers of Fashion-MNIST with a smaller value\n"
        f"worth: rank correlation with gFMD of generators on {worth[0].count} of them, each predicted from the others; "
        f"best: {' and '.join(worth[0].names)} ({worth[0].correlation:+.2f}). It is known for these tokenizers alone, all of 7x7 tokens on a grid."
    )
