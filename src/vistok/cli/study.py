"""vistok study run | report."""

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from vistok.cli.options import Data, Runs, Set, path, progress_bars, say
from vistok.errors import UserError

study_app = typer.Typer(
    help="Grids of runs: train what is missing, make the table, figures and page.", no_args_is_help=True
)
Study = Annotated[str, typer.Argument(help="A study's recipe; vistok recipes lists them.")]
Out = Annotated[
    Path | None, typer.Option("--out", parser=path, help="Folder of records and results; default: results/<study>.")
]


@study_app.command("run")
def run(
    study: Study,
    settings: Set = [],
    data: Data = None,
    runs: Runs = Path("runs"),
    out: Out = None,
    grid: Annotated[list[str], typer.Option(help="Only these grids of the study; may be repeated.")] = [],
    processes: Annotated[
        int | None, typer.Option(min=1, help="Tasks at a time on this machine; default: one for each core.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of a task; default: cores / processes.")] = None,
    executor: Annotated[str, typer.Option(help="pool (this machine) or ray (a cluster).")] = "pool",
    address: Annotated[str | None, typer.Option(help="Address of the Ray cluster; default: the one at hand.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be run, and stop.")] = False,
) -> None:
    """Train and score what is missing of a study; repeat it to go on."""
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
        f"{len(outcome.done)} tasks done, {len(outcome.failed)} failed, {len(outcome.blocked)} waiting for a failed one"
    )
    if outcome.failed:
        names = "\n  ".join(outcome.failed)
        raise UserError(f"{len(outcome.failed)} tasks failed; repeat the command to try them again:\n  {names}")


@study_app.command("report")
def report(study: Study, settings: Set = [], out: Out = None) -> None:
    """Make the table, fits, verdicts, figures and page of a study from its records."""
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
    choice: Annotated[str, typer.Option(help="The tokenizer choice whose best generator is taken.")],
    name: Annotated[str, typer.Option(help="First part of the files' names.")],
    to: Annotated[Path, typer.Option(parser=path, help="Folder to write to.")],
    settings: Set = [],
    runs: Runs = Path("runs"),
    out: Out = None,
) -> None:
    """Write a study's best pair, by held-out train images, as two files with their scores inside."""
    from vistok.study.findings.pair import write_pair
    from vistok.study.run.record import StudyFolder

    config = study_config(study, settings, None, [])
    command = shlex.join(
        ["vistok", "study", "run", study, *(part for setting in settings for part in ("--set", setting))]
    )
    found = write_pair(config, command, StudyFolder(out or results_of(config)), runs, choice, to, name)
    say(f"{found}: {to / name}_tokenizer.safetensors, {to / name}_generator.safetensors")


def results_of(config: Any) -> Path:
    """Return where a study's results lie by default."""
    return Path("results") / str(config.name).removesuffix("-study")


def study_config(name: str, settings: list[str], data: str | None, grids: list[str]) -> Any:
    """Return a study's recipe, with other data and values, or with some of its grids alone."""
    from vistok.config import override
    from vistok.recipes import find_recipe

    if data is not None:
        settings = [f"tokenizer.data.root={json.dumps(data)}", *settings]
    config = override(find_recipe(name, "study"), settings)
    known = [grid.name for grid in config.grids]
    if unknown := [grid for grid in grids if grid not in known]:
        raise UserError(f"study {name} has no grid {', '.join(unknown)}; there are: {', '.join(known)}")
    if not grids:
        return config
    return config.replace(grids=tuple(grid for grid in config.grids if grid.name in grids))


def advise(
    budget: Annotated[
        str, typer.Option(help='What can be spent on both stages: "2e14 flops", "3 hours", "20 minutes".')
    ],
    data: Annotated[str, typer.Option(help="The data set that it is for.")] = "fashion_mnist",
    study: Annotated[Path, typer.Option(parser=path, help="Folder of a study's results.")] = Path("results/fashion"),
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Say which tokenizer and which generator to train for a budget, from a study's runs."""
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
        say(f"{budget} are {amount:.3g} FLOPs at {rate / 1e9:.1f} GFLOP/s, measured now on this machine.")
    advice = advise_by(table, amount)
    if as_json:
        say(json.dumps(advice.as_json(), indent=2))
    else:
        for line in advice_lines(advice, rate):
            say(line)
