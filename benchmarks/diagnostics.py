"""Which diagnostics of a tokenizer tell, before a generator is trained, how well generators on it will draw?

python benchmarks/diagnostics.py run [--data data]
python benchmarks/diagnostics.py report

`run` diagnoses every recorded tokenizer of the Fashion-MNIST study (results/fashion/tokenizers) into the table that vistok diagnose
reads; a stopped command goes on where it was. Beside the diagnostics stand the gFMD of the study's generators of size m after 250 and
1,000 steps, at the guidance chosen for each. `report` writes results/diagnostics/README.md.
"""

import argparse
from pathlib import Path

import pandas as pd
import torch

from vistok.engine.log import Progress
from vistok.files import write_atomic
from vistok.scoring.diagnostics import MEANING, diagnose
from vistok.study.findings.worth import SHIPPED, SHUFFLINGS, of_equal_tokens, worth_of

STUDY = Path("results/fashion")
TABLE = Path(f"src/vistok/study/findings/tables/{SHIPPED}.csv")
OUT = Path("results/diagnostics/README.md")
STEPS = (250, 1000)


def main() -> None:
    """Diagnose what is missing, or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "report"])
    parser.add_argument("--data", default="data")
    given = parser.parse_args()
    if given.what == "report":
        report()
        return
    torch.set_num_threads(1)
    runs = pd.read_csv(STUDY / "runs.csv", keep_default_na=False)
    done = pd.read_csv(TABLE).to_dict("records") if TABLE.is_file() else []
    known = {row["run"] for row in done}
    for _, row in runs[runs.kind == "tokenizer"].iterrows():
        if row.run in known:
            continue
        found = diagnose(STUDY / "tokenizers" / f"{row.run}.safetensors", given.data, Progress())
        generators = runs[(runs.tokenizer_run == row.run) & (runs.choice == "m")]
        scores = {
            f"gfmd_{steps}": next(iter(generators[generators.steps.astype(float) == steps].gfmd), "") for steps in STEPS
        }
        done.append({"run": row.run, "choice": row.tokenizer_choice or row.choice, "seed": row.seed, **found, **scores})
        write_atomic(TABLE, pd.DataFrame(done).to_csv(index=False, float_format="%.6g").encode())


def report() -> None:
    """Write what each diagnostic is worth."""
    table = of_equal_tokens(pd.read_csv(TABLE))
    lines = [
        "| diagnostics | " + " | ".join(f"worth at {steps} steps" for steps in STEPS) + " | sign |",
        "|---" * 4 + "|",
    ]
    worths = {steps: worth_of(table, list(MEANING), f"gfmd_{steps}") for steps in STEPS}
    found = {steps: {one.names: one for one in of_steps} for steps, (of_steps, _) in worths.items()}
    last = found[STEPS[-1]]
    for names in sorted(last, key=lambda names: -last[names].correlation):
        sign = {1: "more is worse", -1: "more is better", 0: ""}[last[names].sign]
        values = " | ".join(
            f"{one.correlation:+.2f} ({one.chance:.1%}; {one.usual:+.2f})" for one in (found[s][names] for s in STEPS)
        )
        lines.append(f"| {' and '.join(names)} | {values} | {sign} |")
    counts = ", ".join(f"{next(iter(found[steps].values())).count} after {steps:,} steps" for steps in STEPS)
    text = OUT.read_text() if OUT.is_file() else ""
    head = text.split("## What each is worth")[0]
    best = " and ".join(f"{chance:.1%} at {steps:,} steps" for steps, (_, chance) in worths.items())
    said = (
        f"Tokenizers with 49 tokens of 512 codes: {counts}. In parentheses: the share of {SHUFFLINGS:,} shufflings of gFMD that come out "
        f"as high, and their median. The best of {len(last)} looks is as good by chance in {best}."
    )
    body = [f"{head}## What each is worth", "", said, "", *lines, ""]
    write_atomic(OUT, "\n".join(body).encode())


if __name__ == "__main__":
    main()
