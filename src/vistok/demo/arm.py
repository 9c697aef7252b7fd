"""One arm of the demo, a tokenizer and a generator on its tokens with their scores: `python -m vistok.demo.arm ORDER.json`.

Each stage is a separate run or evaluation, so repeating it does only what is missing.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vistok.config import override
from vistok.data.config import DataConfig
from vistok.data.images.open import open_split
from vistok.data.latents.cache import LatentCache
from vistok.demo.costs import stage_costs
from vistok.demo.sizes import ARMS, SIZES, DemoSize, shipped_tokenizer
from vistok.demo.stages import (
    CACHE,
    LIKELIHOOD,
    SCORE,
    SCORE_TOKENIZER,
    STAGE,
    TRAIN_GENERATOR,
    TRAIN_TOKENIZER,
    WEIGHTS,
)
from vistok.engine import processes
from vistok.engine.log import Progress, read_rows
from vistok.engine.run_dir import RunDir
from vistok.files import read_json, write_json
from vistok.metrics.features import FeatureExtractor
from vistok.recipes import find_recipe
from vistok.runs.config import GeneratorRun, TokenizerRun
from vistok.runs.load import load_tokenizer
from vistok.runs.run_images import data_of
from vistok.scoring.evaluate_generator import Against, Drawing, evaluate_generator, load_stage2
from vistok.scoring.evaluate_likelihood import evaluate_likelihood
from vistok.scoring.evaluate_tokenizer import evaluate_tokenizer
from vistok.scoring.evaluators import choose_evaluator
from vistok.units import Scale
from vistok.verbs import train_generator, train_tokenizer
from vistok.verbs.cache_latents import cache_tokens

VAL_IMAGES = 2_000  # on which a likelihood is computed


@dataclass(frozen=True)
class Arm:
    """Which arm: of a demo's size, with or without the regularizer, of the pair with this number among the seeds."""

    size: str
    arm: str
    number: int
    data: str
    runs: str

    @property
    def demo(self) -> DemoSize:
        """The demo's size."""
        return SIZES[self.size]

    @property
    def name(self) -> str:
        """The arm's name, as a file's."""
        return f"{self.arm}-{self.demo.seeds[self.number]}"

    @property
    def words(self) -> str:
        """The arm's name on the terminal."""
        which = "with" if self.arm == "crt" else "without"
        return f"pair {self.number + 1} of {len(self.demo.seeds)}, {which} the regularizer"

    @property
    def folder(self) -> Path:
        """Where its results lie."""
        return Path(self.runs) / f"demo-{self.size}" / "arms"

    @property
    def results(self) -> Path:
        """The file of its results."""
        return self.folder / f"{self.name}.json"

    def stages(self) -> list[str]:
        """Return its stages in order."""
        trained = self.demo.tokenizers is not None
        return [stage for stage in WEIGHTS if trained or stage not in (TRAIN_TOKENIZER, SCORE_TOKENIZER)]


def run_arm(arm: Arm, progress: Progress, told: Callable[[str], None] = lambda stage: None) -> dict[str, Any]:
    """Do what is missing of an arm, write its results and return them; `told` hears of every stage that is done."""
    demo = arm.demo
    shipped = demo.tokenizers is None
    path, facts = _shipped(arm) if shipped else _trained(arm, progress, told)
    run = find_recipe(demo.generator, "generator")
    caches = _caches(arm, path, run, progress)
    told(CACHE)
    job = train_generator.prepare(
        run.replace(seed=demo.generator_seed + arm.number), caches["train"], caches["val"], path, Path(arm.runs)
    )
    generator = job.train(progress)
    told(TRAIN_GENERATOR)
    likelihood = evaluate_likelihood(generator.path, caches["train"], caches["val"], progress)
    told(LIKELIHOOD)
    scores = _score_samples(arm, generator, progress)
    told(SCORE)
    results: dict[str, Any] = {
        "tokenizer_run": path.stem if shipped else path.name,
        "generator_run": generator.path.name,
        "tokenizer": facts,
        "generator": {**_training(generator), "likelihood": likelihood, "guidance": demo.scale, "scores": scores},
    }
    config = TokenizerRun.from_json(json.dumps(load_tokenizer(path).info.run_config))
    results["stages"] = stage_costs(results, config, run, caches)
    write_json(arm.results, results)
    return results


def _shipped(arm: Arm) -> tuple[Path, dict[str, Any]]:
    """Return a tokenizer that comes with vistok, with the scores that its study measured."""
    path = shipped_tokenizer(arm.arm, arm.demo.seeds[arm.number])
    tokenizer = load_tokenizer(path)
    info = tokenizer.info
    scores = dict(info.scores)
    variance = scores.pop("latent_variance")
    training = {name: getattr(info.training, name) for name in ("steps", "seconds", "train_flops")}
    params = {"tokenizer": sum(weight.numel() for weight in tokenizer.parameters())}
    facts = {**training, "params": params, "rows": [], "scores": {"ema": scores}, "latent_variance": variance}
    return path, {**facts, "made_by": info.made_by}


def _trained(arm: Arm, progress: Progress, told: Callable[[str], None]) -> tuple[Path, dict[str, Any]]:
    """Return a trained tokenizer with its scores. The regularized one takes fewer steps, to pay for the regularizer."""
    demo = arm.demo
    assert demo.tokenizers is not None
    root = f"data.root={json.dumps(arm.data)}"
    baseline, crt = (override(find_recipe(name, "tokenizer"), [root]) for name in demo.tokenizers)
    budget = train_tokenizer.plan(baseline, len(open_split(baseline.data, "train"))).train_flops
    config = baseline if arm.arm == ARMS[0] else override(crt, [f"length={budget!r} flops"])
    run = train_tokenizer.prepare(config.replace(seed=demo.seeds[arm.number]), Path(arm.runs)).train(progress)
    told(TRAIN_TOKENIZER)
    first, second = _evaluators(config.data)
    scores = evaluate_tokenizer(run.path, first, progress, second=second)
    told(SCORE_TOKENIZER)
    facts = {**_training(run), "scores": {"ema": scores}, "psnr_raw": _last(run, "psnr_raw")}
    return run.path, {**facts, "latent_variance": _last(run, "autoencoder/latent_variance")}


def _caches(arm: Arm, path: Path, run: GeneratorRun, progress: Progress) -> dict[str, LatentCache]:
    """Encode as many images as the generator will see, and some held-out ones for its likelihood."""
    folder = arm.folder / f"{arm.name}-tokens"
    data = data_of(load_tokenizer(path), arm.data)
    seen = run.length.to_steps(Scale(run.batch_size, len(open_split(data, "train")), 1, (), 1)) * run.batch_size
    return {
        split: cache_tokens(path, split, progress, folder / split, arm.data, max_images=count)
        for split, count in (("train", seen), ("val", VAL_IMAGES))
    }


def _score_samples(arm: Arm, generator: RunDir, progress: Progress) -> dict[str, Any]:
    """Return the scores with guidance off and at the demo's scale, in both evaluators' features."""
    stage2 = load_stage2(generator.path, root=arm.data)
    against = Against(_evaluators(stage2.data))
    return {
        name: evaluate_generator(
            stage2, against, Drawing(stage2.sampling(guidance_scale=scale), arm.demo.samples), progress
        )
        for name, scale in (("off", 1.0), ("guided", arm.demo.scale))
    }


def _evaluators(data: DataConfig) -> tuple[FeatureExtractor, FeatureExtractor]:
    """Return both shipped evaluators."""
    return choose_evaluator(data), choose_evaluator(data, "2")


def _training(run: RunDir) -> dict[str, Any]:
    finished = run.read("finished.json") or {}
    resolved = run.read("resolved.json") or {}
    return {
        "steps": finished["steps"],
        "seconds": finished["seconds"],
        "train_flops": finished["train_flops"],
        "params": resolved["params"],
        "rows": read_rows(run.metrics),
    }


def _last(run: RunDir, name: str) -> float:
    """Return the last value logged under this name in a run."""
    return float([row[name] for row in read_rows(run.metrics) if name in row][-1])


def order_of(arm: Arm) -> Path:
    """Write what a process needs to know to make an arm; return the file."""
    file = arm.folder / f"{arm.name}.order.json"
    write_json(file, asdict(arm))
    return file


def main() -> None:
    """Read an order and make its arm, telling the stages as lines `stage: NAME`."""
    arm = Arm(**read_json(Path(sys.argv[1]), "order of the demo", "repeat vistok demo"))
    processes.perform(lambda: run_arm(arm, Progress(), _tell))


def _tell(stage: str) -> None:
    sys.stdout.write(f"{STAGE}{stage}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
