"""An alarm's advice as a new training: the command that made the run, with the setting that the advice names."""

import re
from dataclasses import replace
from pathlib import Path

from vistok.errors import UserError
from vistok.files import read_json
from vistok.overview.record import RunRecord
from vistok.start.plan import NO_MIRROR, StartPlan, plan_file, seconds_of

_SETTING = re.compile(r'--set (?:"([^"]+)"|(\S+))')


def settings_in(words: str) -> list[str]:
    """Return the settings that a piece of advice names: "--set a.b=c" gives "a.b=c"."""
    return [quoted or plain for quoted, plain in _SETTING.findall(words)]


def advised_settings(record: RunRecord) -> list[str]:
    """Return the settings that the run's standing alarms advise, those of a dead run first."""
    return list(dict.fromkeys(setting for alarm in record.alarms for setting in settings_in(alarm.words)))


def again_with(record: RunRecord, setting: str) -> list[str]:
    """Return the words, after `vistok`, that train a run again with one more setting, into the same folder of runs.

    Raises UserError if the command that made the run was not written down, or made it in another way.
    """
    command = record.provenance.get("command")
    words = [str(word) for word in command[1:]] if isinstance(command, list) else []
    if words[:1] == ["start"]:
        words = _of_start(record, words)
    trains = (["train", "tokenizer"], ["train", "generator"], ["train", "classifier"])
    if words[:2] not in trains and words[:1] != ["shorten"]:
        raise UserError(
            f"run {record.name} was not made by a vistok train command that is written down, so it cannot be repeated from "
            f"here; add --set '{setting}' to what made it"
        )
    return [*_without(words, "--runs"), "--runs", str(record.path.parent), "--set", setting]


def _without(words: list[str], option: str) -> list[str]:
    """Return words without an option and its value."""
    kept, skip = [], False
    for word in words:
        if not skip and not word.startswith(f"{option}="):
            skip = word == option
            kept += [] if skip else [word]
        else:
            skip = False
    return kept


def _of_start(record: RunRecord, words: list[str]) -> list[str]:
    """Return the training command that a `vistok start --go` carried out, from the plan that it kept."""
    plan = _plan(record.path.parent, words)
    if plan is None or record.kind not in ("tokenizer", "generator"):
        return []
    tokenizer = str((record.resolved.get("tokenizer") or {}).get("path", "TOKENIZER"))
    return plan.training(tokenizer)[record.kind][1:]


def _plan(runs: Path, words: list[str]) -> StartPlan | None:
    times = [after for word, after in zip(words, words[1:], strict=False) if word == "--go"]
    folders = [
        word
        for before, word in zip(words, words[1:], strict=False)
        if not word.startswith("-") and (before[:1] != "-" or before == NO_MIRROR)
    ]
    try:
        file = plan_file(runs, folders[0], seconds_of(times[0]), NO_MIRROR not in words)
        plan = StartPlan.from_json(read_json(file, f"plan {file}", ""))
        return replace(plan, root=plan.place or plan.root)
    except (UserError, OSError, IndexError, ValueError):
        return None
