"""vistok study run, report and pair; vistok advise."""

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from vistok.cli.commands import App
from vistok.cli.options import Data, Runs, Set, evaluator, path, place, progress_bars, say
from vistok.errors import UserError, counted

study_app = App(help="Run grids of tokenizers and generators, and report the results.")
Study = Annotated[
    str,
    typer.Argument(
        parser=place, help="Recipe of a study (vistok recipes lists them), or a YAML or TOML file with one."
    ),
]
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would run and what is recorded; fetch and write nothing.")
    ] = False,
) -> None:
    """Train and score whatever is missing from a study; repeat the command to resume."""
    from vistok.engine.processors import allowed
    from vistok.study.run.executor import make_executor
    from vistok.study.run.record import StudyFolder
    from vistok.study.run.scheduler import describe, run_study

    config = study_config(study, settings, data, grid)
    folder = StudyFolder(out or results_of(config))
    cores = len(allowed())
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
    say(
        f"its table, figures and page: {shlex.join(['vistok', 'study', 'report', *_words(study, settings, None, out)])}"
    )


@study_app.command("report")
def report(study: Study, settings: Set = [], out: Out = None) -> None:
    """Write the table, fits, verdicts, figures and page of a study from its records."""
    from vistok.study.findings.report import write_report
    from vistok.study.run.record import StudyFolder

    config = study_config(study, settings, None, [])
    folder = StudyFolder(out or results_of(config))
    page = write_report(config, folder, _repeated(study, settings, config, folder, out))
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
    folder = StudyFolder(out or results_of(config))
    command, _ = _repeated(study, settings, config, folder, out)
    best = write_pair(config, command, folder, runs, choice, to, name)
    say(f"{best}: {to / name}_tokenizer.safetensors, {to / name}_generator.safetensors")


def results_of(config: Any) -> Path:
    """Return the default folder of a study's results."""
    from vistok.study.findings.advice_source import results_folder

    return results_folder(config)


def _words(study: str, settings: list[str], data: str | None, out: Path | None) -> list[str]:
    """Return the words of a study's commands after the verb, as they have to be typed again."""
    options = [word for setting in settings for word in ("--set", setting)]
    options += ["--data", data] if data is not None else []
    return [study, *options, *(["--out", str(out)] if out is not None else [])]


def _repeated(study: str, settings: list[str], config: Any, folder: Any, out: Path | None) -> tuple[str, str]:
    """Return the commands that run and report a study; its images are where those of its records were."""
    from vistok.study.findings.table import data_root

    root = data_root(folder)
    data = root if root not in (None, config.tokenizer.data.root) else None
    words = {"run": _words(study, settings, data, out), "report": _words(study, settings, None, out)}
    return tuple(shlex.join(["vistok", "study", verb, *words[verb]]) for verb in ("run", "report"))  # type: ignore[return-value]


def study_config(name: str, settings: list[str], data: str | None, grids: list[str]) -> Any:
    """Return a study, from its recipe or file, with changed data and values, restricted to the given grids if any."""
    from vistok.config import override
    from vistok.recipes import find_recipe
    from vistok.study.from_file import is_study_file, read_study

    if data is not None:
        settings = [f"tokenizer.data.root={json.dumps(data)}", *settings]
    study = read_study(Path(name)) if is_study_file(name) else find_recipe(name, "study")
    config = override(study, settings)
    if config.evaluator is not None:
        config = config.replace(evaluator=evaluator(config.evaluator))
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
    data: Annotated[str | None, typer.Option(help="Data set to get advice for; default: the study's.")] = None,
    study: Annotated[
        list[str],
        typer.Option(
            parser=place,
            metavar="STUDY",
            help="A folder of results, a study's file or its recipe; several are joined; default: fashion_study, whose results "
            "come with vistok.",
        ),
    ] = [],
    per_image: Annotated[
        str | None, typer.Option(help='The most that drawing an image may cost, as in "20 ms" or "3 GFLOPs".')
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Recommend a tokenizer and a generator for a training budget, and for a cost of an image, based on studies' runs."""
    from vistok.study.findings.advise import advice_commands, advice_lines, choose, parse_budget
    from vistok.study.findings.image_cost import parse_per_image
    from vistok.study.findings.joined import joined_source
    from vistok.study.findings.measured_rate import measured_rate, rate_lines, recorded_rate
    from vistok.study.findings.offers import offers
    from vistok.study.findings.two_purses import MORE_SEEDS, OTHER_FAMILIES, drawn, image_lines, pair_of, sieve

    limit = None if per_image is None else parse_per_image(per_image)
    source = joined_source(study, data)
    amount, unit = parse_budget(budget)
    rate = None
    if unit != "flops":
        rate = measured_rate(source)
        amount *= rate
        for line in rate_lines(budget, amount, rate, recorded_rate(source)):
            say(line, err=as_json)
    sieved = sieve(offers(source.table), source.table, limit)
    advice = choose(sieved.kept, amount, rate)
    commands = advice_commands(advice, source)
    if as_json:
        facts: dict[str, Any] = {
            "study": source.name, "data": source.data[0], "flops_per_second": rate, "commands": commands,
            "image": drawn(source, advice.best), "left_out": [[*pair_of(curve), cost] for curve, cost in sieved.dear],
        }  # fmt: skip
        say(json.dumps({**advice.as_json(), **facts}, indent=2))
        return
    say(f"By the runs of {source.name.rstrip(',')}, on {source.data[0]}:")
    others = [MORE_SEEDS, *([OTHER_FAMILIES] if limit is not None else [])] if not study else []
    for line in [*advice_lines(advice, rate, source), *image_lines(source, advice.best, sieved), *others]:
        say(line)
    named = bool(source.commands(advice.best.generator))
    if named:
        say(
            "Its FLOPs include those of networks that come with vistok, which the commands build on and do not train again."
        )
    both = "To do it:" if named or len(commands) == 1 else "To train both:"
    for line in [both, *commands] if commands else ():
        say(line)
