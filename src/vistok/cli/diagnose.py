"""vistok diagnose: what a tokenizer's tokens say of the generators to come."""

import json
from pathlib import Path
from typing import Annotated

import typer

from vistok.cli import options
from vistok.cli.options import Data, progress_bars, run_of, say

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
    from vistok.study.findings.worth import BELIEVED, of_equal_tokens, shipped_diagnostics, standing, worth_of

    options.require_alive(tokenizer, anyway)
    with progress_bars() as progress:
        found = measure(tokenizer, data, progress)
    table = of_equal_tokens(shipped_diagnostics())
    worths, chance = worth_of(table, list(MEANING), FOUND)
    best, alone = worths[0], {one.names[0]: one for one in worths if len(one.names) == 1}
    if as_json:
        each = {
            name: {
                "value": value,
                "worth": alone[name].correlation,
                "chance": alone[name].chance,
                "better": alone[name].better,
            }
            for name, value in found.items()
        }
        say(
            json.dumps(
                {"diagnostics": each, "best": best.names, "worth_of_best": best.correlation, "chance_of_best": chance},
                indent=2,
            )
        )
        return
    say(f"{'':<11}{'value':>9}{'below it':>10}{'better':>8}{'worth':>7}{'chance':>8}")
    for name, value in found.items():
        of, below = alone[name], standing(table, name, value)
        say(
            f"{name:<11}{value:>9.4f}{below:>10.0%}{of.better:>8}{of.correlation:>+7.2f}{of.chance:>8.1%}  {MEANING[name]}"
        )
    say(
        "below it: share of the recorded tokenizers of Fashion-MNIST with a smaller value\n"
        f"better: whether more or less of it went with lower gFMD; nothing where chance explains its worth ({BELIEVED:.0%} or more)\n"
        f"worth: rank correlation with the gFMD of generators on {best.count} of these tokenizers, each way of making them predicted "
        "from the others: 1 is the right order; one that tells nothing comes out below 0\n"
        "chance: how often as much is found where gFMD is shuffled over the tokenizers\n"
        f"best: {' and '.join(best.names)} ({best.correlation:+.2f}; the best of {len(worths)} looks is as good by chance in {chance:.1%}). "
        "This is known for these tokenizers alone, all of 7x7 tokens of 512 codes."
    )
