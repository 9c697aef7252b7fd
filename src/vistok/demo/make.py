"""Make the demo: generators on pairs of tokenizers that differ only in the regularizer, scores, one page.

Each stage is a separate run or evaluation, so repeating the command does only what is missing.
"""

import json
from pathlib import Path
from typing import Any

from vistok.config import override
from vistok.data.config import DataConfig
from vistok.data.images.open import open_split
from vistok.demo.answer import COMPARED, answer, comparison
from vistok.demo.arm import Arm
from vistok.demo.side_by_side import run_side_by_side
from vistok.demo.sizes import ARMS, SIZES, DemoSize, demo_page, identity
from vistok.engine.log import Progress
from vistok.engine.run_dir import RunDir, provenance
from vistok.files import read_json, write_atomic, write_json
from vistok.metrics.features import FeatureExtractor
from vistok.metrics.interval import frechet_replicates
from vistok.metrics.moments import Moments
from vistok.metrics.protocol import Treatment
from vistok.recipes import find_recipe
from vistok.rng import stable_choice
from vistok.runs.config import TokenizerRun
from vistok.scoring.evaluators import choose_evaluator, reference_set
from vistok.scoring.measured import Measured
from vistok.verbs import train_tokenizer


def run_demo(size: str, data: Path, runs: Path, progress: Progress) -> tuple[Path, str]:
    """Do whatever is missing of the demo; return its page, and the answer in words."""
    demo, page, folder = SIZES[size], demo_page(size, runs), RunDir(runs / f"demo-{size}")
    with folder:
        images = _images(demo, data)
        progress.say(f"{_plan(demo)}; about {demo.minutes} on two cores.")
        arms = [
            Arm(size, arm, number, str(data.resolve()), str(runs.resolve()))
            for number in range(len(demo.seeds))
            for arm in ARMS
        ]
        live, floor = run_side_by_side(arms, progress, lambda: _meanwhile(demo, images, runs, progress))
        read = {(arm.number, arm.arm): read_json(arm.results, f"{arm.results}", "repeat vistok demo") for arm in arms}
        results = [{arm: read[number, arm] for arm in ARMS} for number in range(len(demo.seeds))]
        progress.say("writing the page")
        facts: dict[str, Any] = {
            "size": size,
            "seeds": list(demo.seeds),
            "results": results,
            "live": live,
            "floor": floor,
            "comparisons": {name: comparison(results, name) for name in COMPARED},
            "provenance": provenance(),
        }
        facts["answer"] = answer(facts)
        from vistok.demo.page import render

        write_json(folder.path / "demo.json", facts)
        write_atomic(page, render(facts, runs, images).encode())
        folder.finish(identity=identity(size), answer=facts["answer"])
    return page, str(facts["answer"])


def _plan(demo: DemoSize) -> str:
    pairs = "a pair" if len(demo.seeds) == 1 else f"{len(demo.seeds)} pairs"
    kind = "that come with vistok" if demo.tokenizers is None else "trained from scratch"
    return f"{pairs} of tokenizers {kind}, without and with the causal regularizer; a new generator on each"


def _images(demo: DemoSize, data: Path) -> DataConfig:
    """Return the config of the images, fetching them if need be before several processes want them."""
    recipe = demo.tokenizers[0] if demo.tokenizers else demo.live
    config = find_recipe(str(recipe), "tokenizer").data.replace(root=str(data), max_images=None)
    open_split(config, "train")
    return config


def _meanwhile(
    demo: DemoSize, images: DataConfig, runs: Path, progress: Progress
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return what this process does beside the arms: a tokenizer trained before the user's eyes, and the scores of real images."""
    live = _train_live(demo, images, runs, progress) if demo.live else None
    progress.say("scoring real images")
    return live, _floor(choose_evaluator(images), images)


def _train_live(demo: DemoSize, images: DataConfig, runs: Path, progress: Progress) -> dict[str, Any]:
    """Train a tokenizer for about half a minute, to show that training works; the comparison does not use it."""
    # One thread: with several, so small steps would wait for each other whenever the machine has something else to do.
    changes = [f"data.root={json.dumps(images.root)}", "execution.threads=1"]
    config: TokenizerRun = override(find_recipe(str(demo.live), "tokenizer"), changes)
    progress.say("first, a tokenizer is trained here from nothing, for half a minute or so")
    run = train_tokenizer.prepare(config, runs).train(progress)
    finished = run.read("finished.json") or {}
    return {"run": run.path.name, "recipe": demo.live, "steps": finished["steps"], "seconds": finished["seconds"]}


def _floor(extractor: FeatureExtractor, data: DataConfig) -> dict[str, Any]:
    """Return the distance that real images reach: up to 10,000 training images against the test set."""
    train = open_split(data, "train")
    chosen = stable_choice(0, "floor", len(train), 10_000)
    features = reference_set(extractor, train.subset(chosen, "floor"), data, "train").features
    reference = reference_set(extractor, open_split(data, "test"), data, "test")
    distance = frechet_replicates(features, Moments.of(reference.features))
    measured = Measured("", extractor, reference, Treatment(weights="none"), len(chosen))
    return measured.frechet(distance).model_dump(mode="json")
