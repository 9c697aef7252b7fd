"""Shortcuts and their teacher as a table for `vistok advise`: what each costs to train and to draw, and how to make it."""

import shlex
from pathlib import Path
from typing import Any

import pandas as pd
from shortcuts import ARMS, SAMPLES, TEACHER, _shipped

from vistok.files import write_atomic
from vistok.runs.load import load_generator, load_tokenizer
from vistok.study.run.record import COLUMNS

# The copy that `vistok advise --study fashion_shortcuts` reads.
SHIPS = Path("src/vistok/study/findings/tables/fashion_shortcuts.csv")
PAIR, TOKENIZER = "fashion-flow", "fashion-flow-tokenizer"


def write_advice_table(rows: pd.DataFrame, ways: pd.DataFrame, tokenizer: dict[str, float], file: Path) -> None:
    """Write the table: a row for each seed of each way to draw, with the FLOPs of teacher and students together."""
    first = load_tokenizer(_shipped("tokenizer"))
    generator = load_generator(_shipped("generator")).info
    shared = {
        "data": "fashion_mnist",
        "image_size": 28,
        "tokenizer_run": TOKENIZER,
        "tokenizer_choice": TOKENIZER,
        "seed": 0,
    }
    shared |= {
        "num_tokens": first.config.num_tokens,
        "crt_weight": 0.0,
        "crt_layers": 0,
        "crt_variant": "none",
        "alarms": "",
    }
    trained = {
        "steps": first.info.training.steps,
        "train_flops": first.info.training.train_flops,
        "seconds": first.info.training.seconds,
    }
    params = sum(parameter.numel() for parameter in first.parameters())
    own = {
        "kind": "tokenizer",
        "run": TOKENIZER,
        "choice": TOKENIZER,
        "params": params,
        "recipe": "fashion_flow_tokenizer",
    }
    table = [{**shared, **own, **trained, **tokenizer, "total_flops": trained["train_flops"]}]
    spent = {(row.arm, row.seed): row.train_flops for row in rows.itertuples()}
    spent[TEACHER, 0] = generator.training.train_flops
    milliseconds = ways.set_index(["arm", "steps", "solver", "scale"]).milliseconds
    for row in rows.itertuples():
        key = (row.arm, row.steps, row.solver, row.scale)
        flops = sum(spent[arm, 0 if arm == TEACHER else row.seed] for arm in chain(row.arm))
        table.append({
            **shared, "kind": "generator", "run": f"{row.arm}-{row.steps}-{row.solver}-{row.scale:g}-s{row.seed}",
            "choice": named(row), "params": generator_params(), "steps": row.steps, "train_flops": flops,
            "total_flops": flops + trained["train_flops"], "rfmd": tokenizer["rfmd"], "gfmd": row.gfmd, "gfmd_low": row.gfmd_low,
            "gfmd_high": row.gfmd_high, "guidance_scale": row.scale, "ms_per_image": milliseconds[key], "flops_per_image": row.flops,
            "recipe": "fashion_flow_teacher", "commands": "\n".join(commands(row)), "num_samples": SAMPLES,
            "seconds": generator.training.seconds * flops / generator.training.train_flops,
        })  # fmt: skip
    frame = pd.DataFrame(table)
    more = [name for name in frame if name not in COLUMNS]
    content = frame.reindex(columns=[*COLUMNS, *more]).to_csv(index=False).encode()
    write_atomic(file, content)
    write_atomic(SHIPS, content)


def generator_params() -> int:
    """Return the number of the teacher's parameters; its students have as many, but for what embeds their guidance."""
    return sum(parameter.numel() for parameter in load_generator(_shipped("generator")).parameters())


def chain(arm: str) -> list[str]:
    """Return an arm and all its teachers."""
    if arm == TEACHER:
        return [TEACHER]
    return [arm, *(chain(ARMS[arm].teacher) if ARMS[arm].teacher else [])]


def named(row: Any) -> str:
    """Return what a way to draw is called."""
    scale = "" if row.scale == 1 else f", guidance {row.scale:g}"
    return f"{row.arm}, {row.steps} {row.solver} step{'' if row.steps == 1 else 's'}{scale}"


def commands(row: Any) -> list[str]:
    """Return the commands that train an arm, each student from the one before, and draw."""
    found = []
    students = [arm for arm in reversed(chain(row.arm)) if arm != TEACHER]
    for number, name in enumerate(students):
        arm = ARMS[name]
        verb = ["vistok", "shorten", arm.recipe, "--teacher", PAIR if number == 0 else "latest"]
        if not arm.teacher:
            verb = ["vistok", "train", "generator", arm.recipe, "--tokenizer", PAIR]
        found.append(
            shlex.join([*verb, *(word for text in (f"length={arm.budget}", *arm.settings) for word in ("--set", text))])
        )
    drawn = [
        "vistok",
        "sample",
        *(["latest"] if students else ["--from", PAIR]),
        "--steps",
        str(row.steps),
        "--solver",
        row.solver,
    ]
    return [*found, shlex.join([*drawn, *(["--guidance", f"{row.scale:g}"] if row.scale != 1 else [])])]
