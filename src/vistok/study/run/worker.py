"""One task of a study, in a separate process: `python -m vistok.study.run.worker TASK.json`."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from vistok.engine import processes
from vistok.files import read_json, write_json
from vistok.study.run.order import Order
from vistok.study.run.record import SHEET_COLUMNS, StudyFolder


def perform(order: Order) -> None:
    """Perform a task: train what is not trained yet, score it, and write its record. Errors are raised."""
    if order.kind == "tokenizer" and order.image_size is not None:
        _resized_tokenizer(order)
    elif order.kind == "tokenizer":
        _tokenizer(order)
    elif order.kind == "cache":
        _caches(order)
    else:
        _generator(order)


def _caches(order: Order) -> dict[str, Any]:
    from vistok.engine.log import Progress
    from vistok.verbs.cache_latents import cache_tokens

    weights = StudyFolder(Path(order.folder)).weights_file(order.weights)
    place = Path(order.runs) / "tokens" / order.tokenizer
    return {
        split: cache_tokens(weights, split, Progress(), place / split, order.root, image_size=order.image_size)
        for split in ("train", "val")
    }


def _tokenizer(order: Order) -> None:
    from vistok.engine.log import Progress
    from vistok.runs.config import TokenizerRun
    from vistok.scoring.scorers import score_all
    from vistok.study.run.rows import tokenizer_record
    from vistok.verbs import train_tokenizer

    folder = StudyFolder(Path(order.folder))
    config = _executed(TokenizerRun.from_json(json.dumps(order.config)), order)
    run = train_tokenizer.prepare(config, Path(order.runs)).train(Progress())
    started = time.monotonic()
    scored = score_all("tokenizer", _finished(order, run.path, config.data))
    folder.keep_weights(order.run, run.export())
    folder.write(_timed(tokenizer_record(order, config, run, scored.columns, scored.detail), started))


def _resized_tokenizer(order: Order) -> None:
    from vistok.runs.config import TokenizerRun
    from vistok.scoring.scorers import score_all
    from vistok.study.run.rows import resized_record

    folder = StudyFolder(Path(order.folder))
    config = TokenizerRun.from_json(json.dumps(order.config))
    started = time.monotonic()
    scored = score_all("tokenizer", _finished(order, folder.weights_file(order.weights), config.data))
    trained = folder.read(folder.record_file(order.weights))
    folder.write(_timed(resized_record(order, trained, scored.columns, scored.detail), started))


def _generator(order: Order) -> None:
    from vistok.engine.log import Progress
    from vistok.generator.families import default_sampling
    from vistok.runs.config import GeneratorRun
    from vistok.runs.drawing import class_samples
    from vistok.runs.health.gate import require_alive
    from vistok.runs.load import load_generator, load_tokenizer, load_tokenizer_of
    from vistok.runs.pictures import save_png, sheet
    from vistok.runs.run_images import data_of
    from vistok.scoring.scorers import score_all
    from vistok.study.run.rows import generator_record
    from vistok.verbs import train_generator

    folder, progress = StudyFolder(Path(order.folder)), Progress()
    config = _executed(GeneratorRun.from_json(json.dumps(order.config)), order)
    weights, caches = folder.weights_file(order.weights), _caches(order)
    require_alive(weights, anyway=True, tell=progress.say)
    job = train_generator.prepare(config, caches["train"], caches["val"], weights, Path(order.runs))
    _branch(order, job.run_dir.path)
    run = job.train(progress)
    started = time.monotonic()
    generator = load_generator(run.path)
    names = generator.info.class_names
    finished = _finished(order, run.path, data_of(load_tokenizer(weights), order.root), names)
    finished.caches = caches
    scored = score_all("generator", finished)
    write_json(_link(order), {"path": str(run.path)})
    chosen = default_sampling(config.generator).replace(guidance_scale=scored.columns["guidance_scale"])
    save_png(
        folder.sheet_file(order.run),
        sheet(*class_samples(generator, load_tokenizer_of(generator), chosen, SHEET_COLUMNS)),
    )
    folder.write(_timed(generator_record(order, config, run, scored.columns, scored.detail), started))


def _timed(record: dict[str, Any], started: float) -> dict[str, Any]:
    """Return a record with the seconds that its scores took, from which the time left is told."""
    return {**record, "scoring_seconds": round(time.monotonic() - started, 1)}


def _finished(order: Order, path: Path, data: Any, class_names: Any = None) -> Any:
    """Return a finished run together with what scoring it needs."""
    from vistok.engine.log import Progress
    from vistok.scoring.evaluators import choose_evaluator
    from vistok.scoring.scorer import Asked, Finished

    extractor = choose_evaluator(data, order.evaluator, None, class_names)
    scoring: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in order.scoring.items()
    }
    asked = Asked(**scoring)
    size = order.image_size if order.kind == "tokenizer" else None
    return Finished(path, order.root, extractor, asked, Progress(), image_size=size)


def _link(order: Order, run: str | None = None) -> Path:
    """File that states a task's run directory, whose name has a different fingerprint."""
    return Path(order.runs) / "links" / f"{run or order.run}.json"


def _branch(order: Order, run: Path) -> None:
    """Start from the trunk's checkpoint if there is one: up to it, both runs are the same to the last bit."""
    from vistok.engine.checkpoint import copy_checkpoint
    from vistok.engine.checkpoint_files import finished
    from vistok.files import read_bytes, write_atomic

    link = _link(order, order.trunk)
    if order.trunk is None or finished(run / "checkpoints") or not link.is_file():
        return
    again = "delete it, and repeat vistok study run"
    trunk = Path(str(read_json(link, f"link {link}", again).get("path", "")))
    rows = trunk / "metrics.jsonl"
    if rows.is_file():
        # Before the checkpoint: if killed in between, the run starts over and drops them. The loop drops rows of later steps.
        write_atomic(run / "metrics.jsonl", read_bytes(rows))
        for sheet in (trunk / "samples").glob("*-[0-9]*.png"):
            if int(sheet.stem.rpartition("-")[2]) <= order.branch_step:
                write_atomic(run / "samples" / sheet.name, read_bytes(sheet))
        copy_checkpoint(trunk / "checkpoints", order.branch_step, run / "checkpoints")


def _executed(config: Any, order: Order) -> Any:
    changes = {"threads": order.threads, "tensorboard": False, "milestones": tuple(order.milestones)}
    return config.replace(execution=config.execution.replace(**changes))


def main() -> None:
    """Read an order and perform it."""
    processes.perform(lambda: perform(Order.read(Path(sys.argv[1]))))


if __name__ == "__main__":
    main()
