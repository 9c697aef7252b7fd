"""Find records under names of earlier versions, which did not cover everything that determines a run."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vistok.errors import counted
from vistok.study.run.grid import CacheTask, GeneratorTask, Task, TokenizerTask
from vistok.study.run.record import StudyFolder, extractors


def as_recorded(tasks: Sequence[Task], folder: StudyFolder) -> tuple[list[Task], list[str]]:
    """Return the tasks, each under the name of its record, and messages about former names for the user.

    A task without a record takes a former name that has one, unless the record states another evaluator or other initial
    weights.
    """
    names: dict[str, str] = {}
    for task in tasks:
        if isinstance(task, CacheTask) or folder.finished(task.run):
            continue
        for old in filter(folder.finished, task.former):
            if _agrees(_renamed(task, names), folder.read(folder.record_file(old))):
                names[task.run] = old
                break
    return [_renamed(task, names) for task in tasks], _told(names, folder)


def _agrees(task: Task, record: dict[str, Any]) -> bool:
    """Whether a record matches a task, as far as its contents tell."""
    if not isinstance(task, CacheTask) and task.evaluator is not None and extractors(record) - {task.evaluator}:
        return False
    if isinstance(task, TokenizerTask):
        directory = str(record["directory"]).rpartition("-")[2]
        begun = not task.directories or directory in task.directories
        return begun and record.get("weights") == task.resized
    return isinstance(task, GeneratorTask) and record["row"]["tokenizer_run"] == task.tokenizer.run


def _renamed(task: Task, names: dict[str, str]) -> Task:
    if isinstance(task, TokenizerTask):
        resized = None if task.resized is None else names.get(task.resized, task.resized)
        return replace(task, run=names.get(task.run, task.run), resized=resized)
    tokenizer = _renamed(task.tokenizer, names)
    assert isinstance(tokenizer, TokenizerTask)
    if isinstance(task, CacheTask):
        return replace(task, run=f"{tokenizer.run}-tokens", tokenizer=tokenizer)
    trunk = None if task.trunk is None else names.get(task.trunk, task.trunk)
    return replace(task, run=names.get(task.run, task.run), tokenizer=tokenizer, trunk=trunk)


def _told(names: dict[str, str], folder: StudyFolder) -> list[str]:
    if not names:
        return []
    new, old = next(iter(names.items()))
    kept = "keeps its old name" if len(names) == 1 else "keep their old names"
    return [
        f"{counted(len(names), 'record')} in {folder.path} {kept}, which did not cover the contents of all files used by the "
        f"study (images, evaluator, initial weights, perceptual network): {old} would be {new} today. If such a file has "
        "changed since, move its records away and repeat the command"
    ]
