"""vistok start: from a folder of images to a plan, or all the way to samples."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vistok.cli.ending import ALARMED, FAILED
from vistok.cli.options import Anyway, Runs, StrictSamples, place, progress_bars, say
from vistok.errors import UserError

if TYPE_CHECKING:
    from vistok.runs.health.gate import DeadRun
    from vistok.start.plan import StartPlan


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
    strict: StrictSamples = False,
    anyway: Anyway = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON, and carry nothing out.")] = False,
) -> None:
    """Look at a folder and suggest what to train on it; with --go, do it: tokenizer, generator, samples, scores."""
    from vistok.start.plan import NO_MIRROR, into, lines, seconds_of

    if as_json and go is not None:
        raise UserError("--json prints a plan and --go carries it out; give one of them")
    seconds = seconds_of(go or time)  # before torch is loaded, which takes seconds
    from vistok.start.go import prepare_start, run_start

    with progress_bars() as progress:
        plan, look = prepare_start(folder, seconds, runs, lambda line: say(line, err=True), progress, mirror)
    if as_json:
        say(json.dumps(plan.to_json(), indent=2))
        return
    for line in lines(plan, look, runs):
        say(line)
    if mirror:
        say(f"Pictures are mirrored at random, left to right: with letters, or sides that matter, add {NO_MIRROR}.")
    if go is None:
        elsewhere = [*([] if mirror else [NO_MIRROR]), *into(runs)]
        say(f"\nTo run all of them: {shlex.join(['vistok', 'start', folder, '--go', time, *elsewhere])}")
        return
    from vistok.runs.health.gate import DeadRun

    with progress_bars() as progress:
        try:
            done = run_start(plan, runs, progress, anyway)
        except DeadRun as dead:
            _say_dead(plan, dead, runs)
            raise typer.Exit(ALARMED if strict else FAILED) from None
    if _say_done(plan, done, runs) and strict:
        raise typer.Exit(ALARMED)


def _say_dead(plan: "StartPlan", dead: "DeadRun", runs: Path) -> None:
    """Say which stage ended dead, and the command that its advice changes."""
    say(f"vistok: {dead}", err=True)
    command = plan.training(dead.tokenizer, runs)[dead.kind]
    say(f"  The command that the advice is for: {shlex.join(command)}", err=True)
    without = ", the generator's without --init-from" if dead.kind == "tokenizer" and plan.generator_from else ""
    say(f"  After it, type the other commands of the plan with the new run{without}", err=True)


def _say_done(plan: "StartPlan", done: "dict[str, Any]", runs: Path) -> bool:
    """Say what has come of a plan, and how each stage went; return whether anything is wrong."""
    from vistok.overview.record import RunRecord
    from vistok.overview.verdict import verdict
    from vistok.runs.health.gate import alarms_of
    from vistok.verbs.show import start_lines

    for line in start_lines(done):
        say(line)
    commands, wrong = plan.training(str(done["tokenizer"]), runs), bool(done["warnings"])
    for stage, command in commands.items():
        alarms = alarms_of(done[stage])
        wrong |= bool(alarms)
        say(f"{stage}: {verdict(RunRecord(done[stage]))}", err=bool(alarms))
        if alarms:
            say(f"  Its command: {shlex.join(command)}", err=True)
    return wrong
