"""vistok study run, report and pair; vistok advise."""

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from vistok.cli.commands import App
from vistok.cli.options import Data, Runs, Set, path, progress_bars, say
from vistok.errors import UserError, counted

study_app = App(help="Run grids of tokenizers and generators, and report the results.")
Study = Annotated[str, typer.Argument(help="Recipe of a study; vistok recipes lists them.")]
Out = Annotated[
    Path | None, typer.Option("--out", parser=path, help="Folder for records and results; default: results/<study>.")
]


@study_app.command("run")
def run(
    study: Study,
    settings: Set = [],
    data: Data = None,
    runs: Runs = Path("runs"),
    out: Out = None,
    grid: Annotated[list[str], typer.Option(help="Run only this grid of the study; may be repeated.")] = [],
    processes: Annotated[
        int | None, typer.Option(min=1, help="Number of tasks at a time on this machine; default: one per core.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads per task; default: cores / processes.")] = None,
    executor: Annotated[str, typer.Option(help="pool (this machine) or ray (a cluster).")] = "pool",
    address: Annotated[
        str | None, typer.Option(help="Address of the Ray cluster; default: the one this machine belongs to.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would run, then stop.")] = False,
) -> None:
    """Train and score whatever is missing from a study; repeat the command to resume."""
    import os

    from vistok.study.run.executor import make_executor
    from vistok.study.run.record import StudyFolder
    from vistok.study.run.scheduler import describe, run_study

    config = study_config(study, settings, data, grid)
    folder = StudyFolder(out or results_of(config))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = processes or max(1, cores // (threads or 1))
    if dry_run:
        for line in describe(config, runs, folder):
            say(line)
        return
    with progress_bars() as progress:
        pool = make_executor(executor, address, count, threads or max(1, cores // count))
        outcome = run_study(config, runs, folder, pool, threads or max(1, cores // count), progress)
    say(
        f"{counted(len(outcome.done), 'task')} done, {len(outcome.failed)} failed, {len(outcome.blocked)} blocked by a failed task"
    )
    if outcome.failed:
        names = "\n  ".join(outcome.failed)
        raise UserError(
            f"{counted(len(outcome.failed), 'task')} failed; repeat the command to try them again:\n  {names}"
        )


@study_app.command("report")
def report(study: Study, settings: Set = [], out: Out = None) -> None:
    """Write the table, fits, verdicts, figures and page of a study from its records."""
    from vistok.study.findings.report import write_report
    from vistok.study.run.record import StudyFolder

    config = study_config(study, settings, None, [])
    folder = StudyFolder(out or results_of(config))
    page = write_report(config, folder)
    say((folder.path / "summary.md").read_text())
    say(f"page: {page}")


@study_app.command("pair")
def pair(
    study: Study,
    choice: Annotated[str, typer.Option(help="Tokenizer choice whose best generator to take.")],
    name: Annotated[str, typer.Option(help="First part of the file names.")],
    to: Annotated[Path, typer.Option(parser=path, help="Folder to write to.")],
    settings: Set = [],
    runs: Runs = Path("runs"),
    out: Out = None,
) -> None:
    """Write a study's best pair, judged by held-out training images, as two files that include its scores."""
    from vistok.study.findings.pair import write_pair
    from vistok.study.run.record import StudyFolder

    config = study_config(study, settings, None, [])
    command = shlex.join(
        ["vistok", "study", "run", study, *(part for setting in settings for part in ("--set", setting))]
    )
    best = write_pair(config, command, StudyFolder(out or results_of(config)), runs, choice, to, name)
    say(f"{best}: {to / name}_tokenizer.safetensors, {to / name}_generator.safetensors")


def results_of(config: Any) -> Path:
    """Return the default folder of a study's results."""
    return Path("results") / str(config.name).removesuffix("-study")


def study_config(name: str, settings: list[str], data: str | None, grids: list[str]) -> Any:
    """Return a study's recipe with changed data and values, restricted to the given grids if any."""
    from vistok.config import override
    from vistok.recipes import find_recipe

    if data is not None:
        settings = [f"tokenizer.data.root={json.dumps(data)}", *settings]
    config = override(find_recipe(name, "study"), settings)
    known = [grid.name for grid in config.grids]
    if unknown := [grid for grid in grids if grid not in known]:
        raise UserError(f"study {name} has no grid {', '.join(unknown)}; choose from: {', '.join(known)}")
    if not grids:
        return config
    return config.replace(grids=tuple(grid for grid in config.grids if grid.name in grids))


def advise(
    budget: Annotated[
        str, typer.Option(help='What you can spend on both stages, as in "2e14 flops", "3 hours" or "20 minutes".')
    ],
    data: Annotated[str, typer.Option(help="Data set to get advice for.")] = "fashion_mnist",
    study: Annotated[Path, typer.Option(parser=path, help="Folder of a study's results.")] = Path("results/fashion"),
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Recommend a tokenizer and a generator for a training budget, based on a study's runs."""
    from vistok.study.findings.advise import advice_lines, check_data, parse_budget
    from vistok.study.findings.advise import advise as advise_by
    from vistok.study.findings.table import read_table
    from vistok.study.run.record import StudyFolder

    folder = StudyFolder(study)
    table = check_data(read_table(folder.table), data, str(folder.table))
    amount, unit = parse_budget(budget)
    rate = None
    if unit != "flops":
        from vistok.study.findings.measured_rate import measured_rate

        rate = measured_rate(folder)
        amount *= rate * (3600 if unit == "hours" else 60)
        say(f"{budget} is {amount:.3g} FLOPs at {rate / 1e9:.1f} GFLOP/s, just measured on this machine.")
    advice = advise_by(table, amount)
    if as_json:
        say(json.dumps(advice.as_json(), indent=2))
    else:
        for line in advice_lines(advice, rate):
            say(line)
