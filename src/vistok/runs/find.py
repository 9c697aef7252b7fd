"""Find a run by what a person types: a path, a unique part of its name, `latest`, or the name of a shipped network."""

import json
from pathlib import Path

from vistok.errors import UserError, are, nearest, printable, some
from vistok.runs.shipped import shipped_network, shipped_networks

RUNS = Path("runs")
LATEST = "latest"
SHIPPED = "shipped:"  # before the name of a network that comes with vistok, whatever runs are called
SHOWN = 8  # names in a message


def run_folders(runs: Path = RUNS, kind: str | None = None) -> list[Path]:
    """Return the run directories in a folder, of one kind if one is given; the one that was written to last comes first."""
    if not runs.is_dir():
        return []
    found = [place.parent for place in runs.glob("*/config.json")]
    return sorted((run for run in found if kind in (None, kind_of(run))), key=last_written, reverse=True)


def kind_of(run: Path) -> str | None:
    """Return the kind of a run ("tokenizer", "generator" or "classifier"), or None if its config cannot be read."""
    try:
        kind = json.loads((run / "config.json").read_bytes()).get("kind")
    except (OSError, ValueError, AttributeError):
        return None
    return kind if isinstance(kind, str) else None


def last_written(run: Path) -> float:
    """Return when a run last wrote a row, or was made: seconds since the epoch."""
    for name in ("metrics.jsonl", "config.json"):
        try:
            return (run / name).stat().st_mtime
        except OSError:
            continue
    return 0.0


def is_run_or_file(place: Path) -> bool:
    """Whether a path itself is meant: a folder that is no run, one of pictures, may be called as a run is."""
    return (place / "config.json").is_file() if place.is_dir() else place.exists()


def find_run(text: str | Path, kind: str | None = None, runs: Path = RUNS) -> Path:
    """Return the run directory or weights file that a text means.

    That is, in this order: the path itself, if a run or a file is there; `latest`, the run (of this kind) in the folder `runs`
    that was written to last; the only run whose name is the text, begins with it, or contains it; a network of this kind
    that comes with vistok, which "shipped:" before its name means whatever runs are called. Dashes and underscores mean the
    same. Raises UserError, with the names to choose from, if nothing fits, several runs do, or a shipped network was never a
    run here.
    """
    if is_run_or_file(Path(text)):
        return Path(text)
    wanted = _plain(str(text))
    folders = run_folders(runs, kind)
    if wanted.startswith(SHIPPED):
        shipped = _shipped(wanted.removeprefix(SHIPPED), kind)
        if shipped is None:
            raise UserError(_not_shipped(str(text), kind))
        return shipped
    if wanted == LATEST and folders:
        return folders[0]
    fitting = _fitting(wanted, folders) if wanted else []
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UserError(
            f"{len(fitting)} runs in {runs} have {str(text)!r} in their name: {some([run.name for run in fitting], SHOWN)}; "
            f"type more of the name, or {LATEST} for the newest"
        )
    if (shipped := _shipped(wanted, kind)) is not None:
        return shipped
    if Path(text).exists():  # what it is, and what was wanted, is told by whoever opens it
        return Path(text)
    if kind is None and wanted in _names("generator"):
        raise UserError(_not_shipped(str(text), kind))
    raise UserError(_nothing(str(text), kind, runs, folders))


def also_shipped(text: str, found: Path, kind: str | None) -> str | None:
    """Return what to say where a text names a network that comes with vistok, but means a run."""
    shipped = _shipped(_plain(text), kind)
    if shipped is None or found == shipped or Path(text).exists():
        return None
    return f"{text} is {found}, a run of yours; {SHIPPED}{_plain(text)} is the {kind} that comes with vistok"


def lasting(text: str, found: Path, kind: str) -> str:
    """Return what a config holds for a network that a text means: the name of one that comes with vistok, or a path."""
    name = _plain(text).removeprefix(SHIPPED)
    return name if found == _shipped(name, kind) else str(found)


def _shipped(name: str, kind: str | None) -> Path | None:
    return shipped_network(name, kind) if kind in ("tokenizer", "generator") else None


def _names(kind: str | None) -> list[str]:
    return shipped_networks(kind) if kind in ("tokenizer", "generator") else []


def _not_shipped(text: str, kind: str | None) -> str:
    """Say what comes with vistok, where no shipped network of this kind (None: no run) has the name."""
    name, every = _plain(text).removeprefix(SHIPPED), _names(kind) or _names("generator")
    if name in every:
        return (
            f"{text} is a pair of weights, tokenizer and generator, that comes with vistok, no {kind or 'run'} with a record. "
            f"vistok sample --from {name} draws with it, vistok evaluate generator {SHIPPED}{name} scores it"
        )
    return f"{text}: with vistok come {', '.join(every)}"


def _plain(text: str) -> str:
    return text.lower().replace("_", "-")


def _fitting(wanted: str, folders: list[Path]) -> list[Path]:
    """Return the runs of the closest kind of match that there is."""
    names = {run: _plain(run.name) for run in folders}
    for fits in (str.__eq__, str.startswith, str.__contains__):
        if found := [run for run in folders if fits(names[run], wanted)]:
            return found
    return []


def _nothing(text: str, kind: str | None, runs: Path, folders: list[Path]) -> str:
    what = kind or "run"
    others = _fitting(_plain(text), run_folders(runs)) if text and kind else []
    theirs = ", ".join(f"{run.name} ({kind_of(run) or 'damaged'})" for run in others[:SHOWN])
    why = f"it fits only {theirs}" if others else "it is neither a path nor part of a run's name"
    names = [run.name for run in folders]
    there = f"In {runs} there {are(len(names))} {some(names, SHOWN)}" if names else f"There is no {what} in {runs} yet"
    shipped = _names(kind)
    ships = f"; with vistok come {', '.join(shipped)}" if shipped else ""
    return (
        f"no {what} {printable(text)!r}: {why}.{nearest(text, names + shipped)} "
        f"{there}{ships}{'. vistok runs lists all of them' if len(names) > SHOWN else ''}"
    )
