"""Where the app looks: the folders of runs and of studies' results."""

from dataclasses import dataclass
from pathlib import Path

from vistok.errors import UserError
from vistok.runs.find import find_run, run_folders
from vistok.runs.shipped import shipped_networks


@dataclass(frozen=True)
class Place:
    """The folder of runs and the folder of studies' results."""

    runs: Path
    results: Path

    def find(self, text: str | None, kind: str | None = None) -> Path:
        """Return the run or weights file that a text means, as on the command line. Raises UserError if none does."""
        if not text:
            raise UserError(f"choose a {kind or 'run'} first, or type a path or a part of its name")
        return find_run(text, kind, self.runs)

    def names(self, kind: str | None = None) -> list[str]:
        """Return the names of runs of a kind, newest first, then those of the networks of this kind that vistok brings."""
        brought = shipped_networks(kind) if kind in ("tokenizer", "generator") else []
        return [*(run.name for run in run_folders(self.runs, kind)), *brought]

    def studies(self) -> list[str]:
        """Return the folders of results, newest first."""
        found = {place.parent for name in ("runs.csv", "records") for place in self.results.glob(f"*/{name}")}
        return [str(place) for place in sorted(found, key=lambda place: place.stat().st_mtime, reverse=True)]
