"""Fewer calls on Fashion-MNIST: every shortcut of the shipped flow generator, scored beside its teacher.

python benchmarks/shortcuts.py run [--seeds 0 1 2] [--arms guided ...] [--runs RUNS] [--minutes M] [--samples N]
python benchmarks/shortcuts.py draw [--runs RUNS]
python benchmarks/shortcuts.py report

`run` trains students and scores them; a stopped command goes on where it was, after M minutes it begins nothing new, and several
may share the work if none takes another's arms. `draw` measures the time of an image on an idle machine, and keeps some. `report`
writes page, table, picture and verdicts, by the rules in results/shortcuts/README.md. One thread each.
"""

import argparse
import copy
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vistok.config import override
from vistok.data.images.transforms import resize_uint8, to_float, to_uint8
from vistok.engine.log import Progress
from vistok.engine.provenance import provenance
from vistok.files import write_atomic, write_json
from vistok.generator.config import SamplingConfig
from vistok.metrics.features import FeatureExtractor
from vistok.nn.classifier import Classifier
from vistok.recipes import find_recipe
from vistok.runs.drawing import balanced_labels
from vistok.runs.frozen_networks import shipped_classifier
from vistok.runs.shipped import shipped_network
from vistok.runs.teacher import with_teacher
from vistok.scoring.evaluate_generator import Against, Drawing, Stage2, evaluate_generator
from vistok.scoring.evaluate_tokenizer import evaluate_tokenizer
from vistok.scoring.evaluators import choose_evaluator
from vistok.verbs import train_generator
from vistok.verbs.cache_latents import cache_tokens
from vistok.verbs.sample_sheet import layout_of

OUT = Path("results/shortcuts")
SAMPLES = 2_000
# Images drawn at once, how often that is timed, and how many of them are shown.
DRAWN, TIMED, SHEET = 100, 3, 40
BUDGET = '"2e13 flops"'
# The teacher's best guidance on held-out images; fixed before any student was trained.
SCALE = 1.75
TEACHER = "teacher"


@dataclass(frozen=True)
class Drawn:
    """A way to draw from an arm: steps, solver, guidance scale."""

    steps: int
    solver: str
    scale: float = SCALE


@dataclass(frozen=True)
class Arm:
    """A student: its recipe, what is set, which arm is its teacher, and how it is drawn."""

    recipe: str
    drawn: tuple[Drawn, ...]
    teacher: str = TEACHER
    settings: tuple[str, ...] = field(default=())
    budget: str = BUDGET


def _score(divergence: str, *settings: str) -> Arm:
    fixed = (f"shortcut.divergence={divergence}", f"shortcut.guidance_scale={SCALE}", *settings)
    return Arm("fashion_score", (Drawn(1, "ddim"),), settings=fixed)


def _reward(weight: float) -> str:
    return f'shortcut.reward={{"kind": "class", "weight": {weight}}}'


SCALES = (1.0, SCALE, 3.0, 5.0)
ONE = (Drawn(1, "renoise", 1.0), Drawn(2, "renoise", 1.0), Drawn(4, "renoise", 1.0))
ARMS: dict[str, Arm] = {
    "guided": Arm("fashion_guided", tuple(Drawn(20, "multistep", scale) for scale in SCALES)),
    "halved-4": Arm(
        "fashion_progressive", (*(Drawn(4, "ddim", scale) for scale in SCALES),), "guided", ("shortcut.to_steps=4",)
    ),
    "halved-1": Arm(
        "fashion_progressive", (Drawn(1, "ddim"),), "halved-4", ("shortcut.from_steps=4", "shortcut.to_steps=1")
    ),
    "self-cooperative": Arm("fashion_self_cooperative", ONE),
    "against-data": Arm("fashion_self_cooperative", ONE, settings=("shortcut.data_share=1",)),
    "pseudo-huber": _score("pseudo_huber"),
    "l2": _score("l2"),
    "integral-kl": _score("integral_kl"),
    "pseudo-huber-reward": _score("pseudo_huber", _reward(0.1)),
    "integral-kl-reward": _score("integral_kl", _reward(0.1)),
    "pseudo-huber-absurd": _score("pseudo_huber", _reward(100.0)),
    "mean-flow": Arm(
        "fashion_mean_flow", (Drawn(1, "euler"), Drawn(2, "euler")), "", (f"shortcut.guidance_scale={SCALE}",)
    ),
}
TEACHERS = tuple(dict.fromkeys((
    *(Drawn(steps, solver) for steps in (1, 2, 4, 8, 20, 50) for solver in ("euler", "heun", "multistep")),
    *(Drawn(20, "multistep", scale) for scale in SCALES),
    Drawn(1, "euler", 1.0), Drawn(50, "multistep", 1.0),
)))  # fmt: skip


SHOWN = tuple(Drawn(steps, "multistep") for steps in (1, 4, 50))


def trained(name: str, seed: int, runs: Path, progress: Progress) -> Path:
    """Return the run of an arm, trained if it is not there yet; the shipped file for the teacher."""
    if name == TEACHER:
        return _shipped("generator")
    arm, tokenizer = ARMS[name], _shipped("tokenizer")
    settings = [f"seed={seed}", f"length={arm.budget}", "execution.threads=1", "execution.tensorboard=false"]
    config = override(find_recipe(arm.recipe), [*settings, *arm.settings]).replace(name=name)
    if arm.teacher:
        config = with_teacher(config, str(trained(arm.teacher, seed, runs, progress)))
    caches = [cache_tokens(tokenizer, split, progress) for split in ("train", "val")]
    return train_generator.prepare(config, *caches, tokenizer, runs).train(progress).path


def _shipped(kind: str) -> Path:
    found = shipped_network("fashion-flow", kind)
    assert found is not None
    return found


class Judge:
    """How many samples a classifier names rightly that neither trained nor scores anything here."""

    def __init__(self) -> None:
        network, _ = shipped_classifier("fashion_evaluator_2")
        self.network: Classifier = network

    @torch.inference_mode()
    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Return the share of uint8 images whose class it names."""
        named = torch.cat([self.network(to_float(part)).argmax(1) for part in images.split(500)])
        return float((named == labels).float().mean())


def scored(
    stage2: Stage2, drawn: Drawn, noise: int, judge: Judge, progress: Progress, count: int = SAMPLES
) -> dict[str, Any]:
    """Return the scores of one way to draw, on the test set; `noise`: the seed of its noise."""
    drawing = Drawing(sampling_of(stage2, drawn, noise), count)
    extractor, images = watched(choose_evaluator(stage2.data, None, None, stage2.generator.info.class_names))
    found = evaluate_generator(stage2, Against((extractor,)), drawing, progress)
    labels = balanced_labels(count, stage2.generator.num_classes)
    # Scores that were already there are read, and nothing was drawn.
    images = images or list(_images(stage2, stage2.generator.sampler(drawing.sampling), labels))
    keys = {name: found[name] for name in found if isinstance(found[name], dict) and "value" in found[name]}
    values = {name: score["value"] for name, score in keys.items()}
    bounds = {f"gfmd_{name}": keys["gfmd"][name] for name in ("corrected", "low", "high")}
    return {
        **values, **bounds, "accuracy": judge.accuracy(torch.cat(images)[-count:], labels),
        **{name: found["cost"][name] for name in ("calls", "flops")},
    }  # fmt: skip


def sampling_of(stage2: Stage2, drawn: Drawn, seed: int) -> SamplingConfig:
    """Return the way to draw as the generator's settings."""
    return stage2.sampling(steps=drawn.steps, solver=drawn.solver, guidance_scale=drawn.scale, seed=seed)


def watched(extractor: FeatureExtractor) -> tuple[FeatureExtractor, list[Tensor]]:
    """Return an extractor that does the same, and the list of the images that it will have seen: the samples are the last."""
    seen: list[Tensor] = []
    everything = extractor.everything

    def seeing(images: Tensor) -> Any:
        seen.append(images)
        return everything(images)

    twin = copy.copy(extractor)
    twin.everything = seeing  # type: ignore[method-assign]
    return twin, seen


def _images(stage2: Stage2, sampler: Any, labels: Tensor) -> Iterator[Tensor]:
    ids = torch.arange(len(labels))
    for chosen in ids.split(500):
        yield resize_uint8(to_uint8(stage2.tokenizer.decode(sampler(labels[chosen], chosen))), stage2.data.sides)


def main() -> None:
    """Train and score what is missing, draw with what is there, or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "draw", "report"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=[TEACHER, *ARMS], default=[TEACHER, *ARMS])
    parser.add_argument("--runs", type=Path, default=Path("runs/shortcuts"))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument(
        "--samples", type=int, default=SAMPLES, help="another number: what claims need, with one noise for all"
    )
    given = parser.parse_args()
    if given.what == "report":
        from shortcuts_report import report

        report(given.out)
        return
    torch.set_num_threads(1)
    (draw_all if given.what == "draw" else run_all)(given)


def run_all(given: argparse.Namespace) -> None:
    """Add a line to scores.jsonl (of another number of samples, scores-N.jsonl) for each arm, seed and way that it lacks."""
    progress, judge, until = Progress(), Judge(), time.monotonic() + 60 * given.minutes
    given.out.mkdir(parents=True, exist_ok=True)
    usual = given.samples == SAMPLES
    file = given.out / ("scores.jsonl" if usual else f"scores-{given.samples}.jsonl")
    done = {(row["arm"], row["seed"], row["steps"], row["solver"], row["scale"]) for row in rows_of(file)}
    for seed in given.seeds:
        for name in given.arms:
            ways = [way for way in ways_of(name) if usual or claimed(name, way)]
            left = [way for way in ways if (name, seed, way.steps, way.solver, way.scale) not in done]
            if not left or (name == TEACHER and seed != given.seeds[0]):
                continue
            if time.monotonic() > until:
                return
            stage2 = stage2_of(trained(name, seed, given.runs, progress), given.runs)
            for way in left:
                found = scored(stage2, way, 1000 + seed if usual else 1000, judge, progress, given.samples)
                row = {"arm": name, "seed": seed, **vars(way), **found}
                row["train_flops"] = stage2.generator.info.training.train_flops
                add(file, row)
                print(json.dumps(row), flush=True)
            write_json(given.out / "provenance.json", provenance())


def claimed(name: str, way: Drawn) -> bool:
    """Whether a claim on gFMD or recall needs this way to draw, or the advice to try the teacher's own few steps first."""
    if name == TEACHER:
        steps = (1, 4) if way.solver == "euler" else (4, 8, 20, 50) if way.solver == "multistep" else ()
        return way.steps in steps and (way.scale == SCALE or way.steps == 20)
    return way.steps in (1, 20) or way.scale == SCALE


def ways_of(name: str) -> tuple[Drawn, ...]:
    """Return how an arm is drawn."""
    return TEACHERS if name == TEACHER else ARMS[name].drawn


def rows_of(file: Path) -> list[dict[str, Any]]:
    """Return the rows of scores.jsonl, none if there is no such file."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def add(file: Path, row: dict[str, Any]) -> None:
    """Add a row, in turn with other processes."""
    folder = os.open(file.parent, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        write_atomic(file, "".join(json.dumps(one) + "\n" for one in [*rows_of(file), row]).encode())
    finally:
        os.close(folder)


def draw_all(given: argparse.Namespace) -> None:
    """Write drawn.json, the tokenizer's scores and three timed runs of each way to draw, and sheets of samples.

    What is timed already is not timed again.
    """
    file, progress = given.out / "drawn.json", Progress()
    known = json.loads(file.read_text()) if file.is_file() else {"rows": []}
    done = {(row["arm"], row["steps"], row["solver"], row["scale"]) for row in known["rows"]}
    for name in given.arms:
        left = [way for way in ways_of(name) if (name, *vars(way).values()) not in done]
        if not left or (name != TEACHER and not any(row["arm"] == name for row in rows_of(given.out / "scores.jsonl"))):
            continue
        stage2 = stage2_of(trained(name, given.seeds[0], given.runs, progress), given.runs)
        if "tokenizer" not in known:
            scores = evaluate_tokenizer(_shipped("tokenizer"), choose_evaluator(stage2.data, None, None), progress)
            known["tokenizer"] = {score: scores[score]["value"] for score in ("psnr", "ssim", "rfmd")}
        for way in left:
            runs, images = timed(stage2, way)
            known["rows"].append({"arm": name, **vars(way), "milliseconds": runs})
            write_json(file, {**known, "images": DRAWN, "threads": 1, **provenance()})
            print(json.dumps(known["rows"][-1]), flush=True)
            if way in SHOWN or way == ways_of(name)[0]:
                labels = balanced_labels(SHEET, stage2.generator.num_classes)
                keep_sheet(given.out, name, way, images[:SHEET], labels, stage2)


@torch.inference_mode()
def timed(stage2: Stage2, way: Drawn) -> tuple[list[float], Tensor]:
    """Return the milliseconds of an image in each of some draws, after one to warm up, and the images."""
    labels = balanced_labels(DRAWN, stage2.generator.num_classes)
    sampler, seconds, images = stage2.generator.sampler(sampling_of(stage2, way, 0)), [], []
    for _ in range(1 + TIMED):
        started = time.perf_counter()
        images = list(_images(stage2, sampler, labels))
        seconds.append(time.perf_counter() - started)
    return [1e3 * each / DRAWN for each in seconds[1:]], torch.cat(images)


def keep_sheet(out: Path, name: str, way: Drawn, images: Tensor, labels: Tensor, stage2: Stage2) -> None:
    """Write samples as samples/ARM-STEPS.png, a column for each class."""
    (out / "samples").mkdir(exist_ok=True)
    picture = layout_of(labels, stage2.generator.info.class_names).picture(images)
    picture.convert("L").save(out / "samples" / f"{name}-{way.steps}.png", optimize=True)


def stage2_of(place: Path, runs: Path) -> Stage2:
    """Return both networks of a run, or of the shipped file, whose scores are then kept beside the runs."""
    from vistok.runs.load import load_generator, load_tokenizer_of
    from vistok.runs.run_images import data_of

    generator = load_generator(place)
    decoder = load_tokenizer_of(generator)
    run = place if place.is_dir() else runs / TEACHER
    run.mkdir(parents=True, exist_ok=True)
    return Stage2(run, "ema", generator, decoder, data_of(decoder))


if __name__ == "__main__":
    main()
