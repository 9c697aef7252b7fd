"""The commands that made a run, and those that a user would type next, quoted for a shell."""

import shlex
from pathlib import Path

from vistok.generator.families import FAMILIES
from vistok.overview.record import FINISHED, TRAINING, RunRecord
from vistok.recipes import all_recipes
from vistok.runs.shipped import shipped_networks
from vistok.tokenizer.bottlenecks.config import BOTTLENECKS, QuantizerConfig

ENTRY_POINTS = ("__main__.py", "vistok")


def made_by(record: RunRecord) -> str:
    """Return the command of the first sitting; "" if it was not recorded."""
    return command_line(record.provenance.get("command"))


def command_line(command: object) -> str:
    """Return a recorded command as it would be typed; "" for none."""
    if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
        return ""
    program, *words = command
    return shlex.join(["vistok" if Path(program).name in ENTRY_POINTS else program, *words])


def next_commands(record: RunRecord) -> list[tuple[str, str]]:
    """Return (what it does, command) of what follows for a run in this state; nothing for a dead one, whose alarms say what to do."""
    run = shlex.quote(str(record.path))
    if record.state == TRAINING:
        return []
    if record.state != FINISHED:
        again = made_by(record)
        return [("go on exactly where it is", again)] if again.startswith(("vistok train", "vistok shorten")) else []
    if any(alarm.dead for alarm in record.alarms):
        return []
    recipe = " ".join((_generator_recipe(record), *_general_weights(record)))
    return [(words, command.format(run=run, recipe=recipe)) for words, command in _NEXT.get(record.kind, ())]


def _general_weights(record: RunRecord) -> list[str]:
    """Return the option that starts a generator from a shipped one which knows these tokens already; none otherwise."""
    known = record.config.get("init_from") or ""
    frozen = record.config.get("trains") == "decoder" and known in shipped_networks("generator")
    return ["--init-from", str(known)] if frozen else []


def _generator_recipe(record: RunRecord) -> str:
    """Return the first recipe of a generator for this tokenizer's data set and kind of latents."""
    quantizer = (record.config.get("tokenizer") or {}).get("quantizer") or {}
    part = BOTTLENECKS.get(quantizer.get("kind", ""))
    writes = "tokens" if part is None or issubclass(part.config, QuantizerConfig) else "vectors"
    for name, build in all_recipes().items():
        if name.split("_")[0] == record.recipe.split("_")[0]:
            config = build()
            if config.kind == "generator" and FAMILIES[config.generator.kind].writes == writes:
                return name
    return "images64_ar_small" if writes == "tokens" else "images64_flow"


_NEXT = {
    "tokenizer": (
        ("see what it keeps of your pictures", "vistok reconstruct PICTURES --tokenizer {run}"),
        ("score it", "vistok evaluate tokenizer {run}"),
        ("train a generator on its latents", "vistok train generator {recipe} --tokenizer {run}"),
    ),
    "generator": (
        ("draw images", "vistok sample {run}"),
        ("score its samples", "vistok evaluate generator {run} --split train"),
        ("set it beside another one", "vistok compare {run} OTHER"),
    ),
    "classifier": (("use it as the evaluator of other runs", "vistok evaluate tokenizer RUN --evaluator {run}"),),
}
