"""vistok start: from a folder of images to a plan, or all the way to samples."""

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer

from vistok.cli.ending import ALARMED
from vistok.cli.options import Anyway, Runs, Strict, place, progress_bars, say
from vistok.errors import UserError


def start(
    folder: Annotated[
        str, typer.Argument(parser=place, help="Folder of images: one sub-folder per class, or all in one folder.")
    ],
    go: Annotated[
        str | None, typer.Option("--go", help="Carry out the plan within this time, as in 30m or 2h.")
    ] = None,
    time: Annotated[str, typer.Option("--for", help="Only make a plan, for this time.")] = "30m",
    runs: Runs = Path("runs"),
    mirror: Annotated[
        bool,
        typer.Option("--mirror/--no-mirror", help="Mirror pictures at random, left to right, as they are learned."),
    ] = True,
    strict: Strict = False,
    anyway: Anyway = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON, and carry nothing out.")] = False,
) -> None:
    """Look at a folder and suggest what to train on it; with --go, do it: tokenizer, generator, samples, scores."""
    from vistok.start.plan import NO_MIRROR, lines, seconds_of

    if as_json and go is not None:
        raise UserError("--json prints a plan and --go carries it out; give one of them")
    seconds = seconds_of(go or time)  # before torch is loaded, which takes seconds
    from vistok.start.go import prepare_start, run_start

    with progress_bars() as progress:
        plan, look = prepare_start(folder, seconds, runs, lambda line: say(line, err=True), progress, mirror)
    if as_json:
        say(json.dumps(plan.to_json(), indent=2))
        return
    for line in lines(plan, look):
        say(line)
    if mirror:
        say(f"Pictures are mirrored at random, left to right: with letters, or sides that matter, add {NO_MIRROR}.")
    if go is None:
        elsewhere = [*([] if mirror else [NO_MIRROR]), *([] if runs == Path("runs") else ["--runs", str(runs)])]
        say(f"\nTo run all of them: {shlex.join(['vistok', 'start', folder, '--go', time, *elsewhere])}")
        return
    with progress_bars() as progress:
        done = run_start(plan, runs, progress, anyway)
    from vistok.runs.health.gate import alarms_of, closing_words
    from vistok.verbs.show import start_lines

    for line in start_lines(done):
        say(line)
    commands = [words for words in plan.commands(str(done["tokenizer"]), str(done["generator"])) if words[1] == "train"]
    found = {stage: alarms_of(done[stage]) for stage in ("tokenizer", "generator")}
    for (stage, alarms), words in zip(found.items(), commands, strict=True):
        if alarms:
            say(f"{stage}{closing_words(alarms)}", err=True)
            say(f"  Its command: {shlex.join(words)}", err=True)
    if strict and any(found.values()):
        raise typer.Exit(ALARMED)
