"""Everything a process needs to perform one task of a study, as a file."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vistok.errors import damage_is_a_mistake
from vistok.files import read_json, write_json
from vistok.study.run.grid import CacheTask, GeneratorTask, Task, TokenizerTask


@dataclass(frozen=True)
class Order:
    """Everything a process needs to perform one task, as plain JSON values, so that any machine can run it."""

    kind: str
    run: str
    choice: str
    config: dict[str, Any]
    tokenizer: str
    tokenizer_choice: str
    tokenizer_config: dict[str, Any]
    # The run that the tokenizer's weights come from, and its image size if changed.
    weights: str
    image_size: int | None
    trunk: str | None
    branch_step: int
    milestones: tuple[int, ...]
    scoring: dict[str, Any]
    evaluator: str | None
    study: str
    runs: str
    folder: str
    threads: int | None

    @property
    def log(self) -> Path:
        """File for the output of the process."""
        return Path(self.runs) / "logs" / f"{self.run}.log"

    @property
    def root(self) -> str:
        """Folder of the images."""
        return str(self.tokenizer_config["data"]["root"])

    @classmethod
    def read(cls, path: Path) -> "Order":
        """Read an order; raises UserError where the file is damaged."""
        what, again = f"order {path}", "vistok study run writes it again"
        fields = read_json(path, what, again)
        with damage_is_a_mistake(what, again):
            return cls(**fields)

    def write(self) -> Path:
        """Write the order next to its log; return the file."""
        path = self.log.with_suffix(".json")
        write_json(path, asdict(self))
        return path


def make_order(task: Task, study: Any, runs: Path, folder: Path, threads: int | None) -> Order:
    """Return the order for a task of a study, whose runs are in `runs/<study>`."""
    tokenizer = task if isinstance(task, TokenizerTask) else task.tokenizer
    generator = task if isinstance(task, GeneratorTask) else None
    trained = tokenizer if isinstance(task, CacheTask) else task
    return Order(
        kind=task.kind,
        run=task.run,
        choice=trained.choice,
        config=trained.config.model_dump(mode="json"),
        tokenizer=tokenizer.run,
        tokenizer_choice=tokenizer.choice,
        tokenizer_config=tokenizer.config.model_dump(mode="json"),
        weights=tokenizer.weights,
        image_size=tokenizer.image_size,
        trunk=generator.trunk if generator else None,
        branch_step=generator.branch_step if generator else 0,
        milestones=generator.milestones if generator else (),
        scoring=study.scoring.model_dump(mode="json"),
        evaluator=study.evaluator,
        study=study.name,
        runs=str((runs / study.name).resolve()),
        folder=str(folder.resolve()),
        threads=threads,
    )
