"""Make the demo: two tokenizers that differ only in the regularizer, a generator on each, scores, one page.

Each stage is a separate run or evaluation, so repeating the command does only what is missing.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vistok.config import override
from vistok.data.config import DataConfig
from vistok.data.images.open import open_split
from vistok.demo.costs import stage_costs
from vistok.demo.facts import dig
from vistok.demo.sizes import ARMS, SIZES, DemoSize, demo_page, identity
from vistok.engine.log import Progress, Task, read_rows
from vistok.engine.run_dir import RunDir, provenance
from vistok.files import write_atomic, write_json
from vistok.metrics.features import FeatureExtractor
from vistok.metrics.interval import Interval, frechet_replicates, t_interval
from vistok.metrics.moments import Moments
from vistok.metrics.protocol import Score, Treatment
from vistok.recipes import find_recipe
from vistok.rng import stable_choice
from vistok.runs.config import GeneratorRun, TokenizerRun
from vistok.scoring.evaluate_generator import Against, Drawing, Stage2, choose_guidance, evaluate_generator, load_stage2
from vistok.scoring.evaluate_likelihood import evaluate_likelihood
from vistok.scoring.evaluate_tokenizer import evaluate_tokenizer
from vistok.scoring.evaluators import choose_evaluator, reference_set
from vistok.scoring.measured import Measured
from vistok.verbs import train_generator, train_tokenizer
from vistok.verbs.cache_latents import cache_tokens

# Weight of each stage in the progress bar (seconds that the short demo takes on two cores).
WEIGHTS = {
    "train tokenizer": 75,
    "cache tokens": 20,
    "score tokenizer": 20,
    "train generator": 55,
    "likelihood": 8,
    "choose guidance on held-out train images": 18,
    "sample and score": 65,
}
# What is compared between the arms, with intervals: name -> path of the score in an arm's results.
COMPARED = {
    "gfmd_chosen": ("generator", "scores", "chosen", "gfmd"),
    "gfmd_off": ("generator", "scores", "off", "gfmd"),
    "nats_per_token": ("generator", "likelihood", "ema", "nats_per_token"),
    "psnr": ("tokenizer", "scores", "ema", "psnr"),
    "rfmd": ("tokenizer", "scores", "ema", "rfmd"),
}


def run_demo(size: str, data: Path, runs: Path, progress: Progress) -> tuple[Path, str]:
    """Do whatever is missing of the demo; return its page, and the answer in words."""
    demo = SIZES[size]
    folder, page = RunDir(runs / f"demo-{size}"), demo_page(size, runs)
    with folder:
        configs = _configs(demo, data)
        seeds = "1 seed" if len(demo.seeds) == 1 else f"{len(demo.seeds)} seeds"
        progress.say(f"Two tokenizers, two generators, {seeds}; about {_minutes(size)} on two cores.")
        repeats = len(demo.seeds) * len(ARMS)
        with progress.task("the whole demo", repeats * sum(WEIGHTS.values())) as whole:
            stages = _Stages(progress, repeats * len(WEIGHTS), whole)
            results = [{arm: _arm(demo, configs, arm, seed, runs, stages) for arm in ARMS} for seed in demo.seeds]
        extractor = choose_evaluator(configs[0].data)
        progress.say("scoring real images and writing the page")
        facts = {
            "size": size,
            "seeds": list(demo.seeds),
            "results": results,
            "floor": _floor(extractor, configs[0].data),
            "differences": {name: _difference(results, path) for name, path in COMPARED.items()},
            "provenance": provenance(),
        }
        sentence = answer(facts)
        facts["answer"] = sentence
        from vistok.demo.page import render

        write_json(folder.path / "demo.json", facts)
        write_atomic(page, render(facts, runs, configs[0].data).encode())
        folder.finish(identity=identity(size), answer=sentence)
    return page, sentence


def _minutes(size: str) -> str:
    return {"tiny": "a minute", "short": "9 minutes", "full": "an hour"}[size]


class _Stages:
    """Announces the stages, and advances the progress bar of the whole demo."""

    def __init__(self, progress: Progress, total: int, whole: Task) -> None:
        self.progress, self.whole = progress, whole
        self.total, self.done = total, 0

    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """Announce a stage, and count it once it is done."""
        self.done += 1
        self.progress.say(f"[{self.done}/{self.total}] {name}")
        yield self.progress
        self.whole.advance(WEIGHTS[name.split(" (")[0]])


def _configs(demo: DemoSize, data: Path) -> tuple[TokenizerRun, TokenizerRun, GeneratorRun]:
    root = f"data.root={json.dumps(str(data))}"
    baseline, crt = (override(find_recipe(name, "tokenizer"), [root]) for name in demo.recipes[:2])
    # Equal training FLOPs: the regularized arm takes fewer steps, to pay for the regularizer.
    images = len(open_split(baseline.data, "train"))
    budget = train_tokenizer.plan(baseline, images).train_flops
    crt = override(crt, [f"length={budget!r} flops"])
    return baseline, crt, find_recipe(demo.recipes[2], "generator")


def _arm(
    demo: DemoSize,
    configs: tuple[TokenizerRun, TokenizerRun, GeneratorRun],
    arm: str,
    seed: int,
    runs: Path,
    stages: _Stages,
) -> dict[str, Any]:
    """Train both stages of one arm and score them; return numbers and run names."""
    config = (configs[0] if arm == "baseline" else configs[1]).replace(seed=seed)
    label = f"{arm}, seed {seed}"
    extractor, second = choose_evaluator(config.data), choose_evaluator(config.data, "2")
    with stages.stage(f"train tokenizer ({label})") as progress:
        tokenizer = train_tokenizer.prepare(config, runs).train(progress)
    with stages.stage(f"cache tokens ({label})") as progress:
        caches = {split: cache_tokens(tokenizer.path, split, progress) for split in ("train", "val", "test")}
    with stages.stage(f"score tokenizer ({label})") as progress:
        scores = {
            weights: evaluate_tokenizer(tokenizer.path, extractor, progress, weights=weights, second=second)
            for weights in demo.weights
        }
    with stages.stage(f"train generator ({label})") as progress:
        job = train_generator.prepare(
            configs[2].replace(seed=seed), caches["train"], caches["val"], tokenizer.path, runs
        )
        generator = job.train(progress)
    with stages.stage(f"likelihood ({label})") as progress:
        likelihood = evaluate_likelihood(generator.path, caches["train"], caches["val"], progress)
    with stages.stage(f"choose guidance on held-out train images ({label})") as progress:
        stage2 = load_stage2(generator.path)
        search = Drawing(stage2.sampling(), demo.search_samples)
        guidance = choose_guidance(stage2, extractor, demo.scales, search, progress)
    with stages.stage(f"sample and score ({label})") as progress:
        against = Against((extractor, second))
        samples = _score_samples(stage2, against, guidance["guidance_scale"], demo, progress)
    results: dict[str, Any] = {
        "tokenizer_run": tokenizer.path.name,
        "generator_run": generator.path.name,
        "tokenizer": {
            **_training(tokenizer),
            "scores": scores,
            "psnr_raw": _last(tokenizer, "psnr_raw"),
            "latent_variance": _last(tokenizer, "autoencoder/latent_variance"),
        },
        "generator": {**_training(generator), "likelihood": likelihood, "guidance": guidance, "scores": samples},
    }
    results["stages"] = stage_costs(results, config, configs[2], caches, demo)
    return results


def _score_samples(
    stage2: Stage2, against: Against, scale: float, demo: DemoSize, progress: Progress
) -> dict[str, Any]:
    """Return the scores with guidance off and at the chosen scale, in both evaluators' features."""

    def scored(model: Stage2, guidance: float) -> dict[str, Any]:
        drawing = Drawing(model.sampling(guidance_scale=guidance), demo.num_samples)
        return evaluate_generator(model, against, drawing, progress)

    scores = {"off": scored(stage2, 1.0), "chosen": scored(stage2, scale)}
    if "raw" in demo.weights:
        scores["raw"] = scored(load_stage2(stage2.run, "raw"), 1.0)
    return scores


def _training(run: RunDir) -> dict[str, Any]:
    finished = run.read("finished.json") or {}
    resolved = run.read("resolved.json") or {}
    return {
        "steps": finished["steps"],
        "seconds": finished["seconds"],
        "train_flops": finished["train_flops"],
        "train_flops_paper": resolved["train_flops_paper"],
        "params": resolved["params"],
        "rows": [row for row in read_rows(run.metrics)],
    }


def _last(run: RunDir, name: str) -> float:
    """Return the last value logged under this name in a run."""
    return float([row[name] for row in read_rows(run.metrics) if name in row][-1])


def _floor(extractor: FeatureExtractor, data: DataConfig) -> dict[str, Any]:
    """Return the distance that real images reach: up to 10,000 training images against the test set."""
    train = open_split(data, "train")
    chosen = stable_choice(0, "floor", len(train), 10_000)
    features = reference_set(extractor, train, data, "train").features[chosen]
    reference = reference_set(extractor, open_split(data, "test"), data, "test")
    distance = frechet_replicates(features, Moments.of(reference.features))
    return (
        Measured("", extractor, reference, Treatment(weights="none"), len(chosen))
        .frechet(distance)
        .model_dump(mode="json")
    )


def _difference(results: list[dict[str, Any]], path: tuple[str, ...]) -> dict[str, float]:
    """Return crt - baseline for a score, with its interval.

    One seed: sampling noise of the scored images alone (paired jackknife). Several: paired t-interval over seeds.
    """
    pairs = []
    for result in results:
        baseline, crt = (Score.from_json(json.dumps(dig(result[arm], path))) for arm in ARMS)
        pairs.append(crt.minus(baseline))
    interval: Interval | None = pairs[0].interval
    if len(pairs) > 1:
        interval = t_interval([replicates.value for replicates in pairs])
    assert interval is not None  # the demo scores hundreds of images
    return {"value": interval.value, "corrected": interval.corrected, "low": interval.low, "high": interval.high}


def verdict(difference: dict[str, float], less: str, more: str, neither: str) -> str:
    """Return the phrase that a difference (crt - baseline) deserves, by its interval."""
    return less if difference["high"] < 0 else more if difference["low"] > 0 else neither


def mean_of(results: list[dict[str, Any]], arm: str, path: tuple[str, ...]) -> float:
    """Return an arm's score, averaged over seeds."""
    values = [float(dig(result[arm], path)["value"]) for result in results]
    return sum(values) / len(values)


def answer(facts: dict[str, Any]) -> str:
    """Return the answer in two or three sentences: what the intervals say, and no more."""
    results, differences = facts["results"], facts["differences"]
    (gfmd, nats, psnr) = (
        [mean_of(results, arm, COMPARED[name]) for arm in ARMS] for name in ("gfmd_chosen", "nats_per_token", "psnr")
    )
    chosen = differences["gfmd_chosen"]
    opening = verdict(
        chosen,
        "At equal training compute the causal regularizer made generation better",
        "At equal training compute the causal regularizer made generation worse",
        "These runs do not settle whether the causal regularizer helps generation",
    )
    seeds = len(facts["seeds"])
    scope = f"over {seeds} training seeds" if seeds > 1 else "sampling noise only"
    limits = "" if seeds > 1 else " This is a single pair of runs: another training seed may differ by more."
    easier = verdict(differences["nats_per_token"], "easier", "harder", "about as easy")
    worse = verdict(differences["psnr"], "worse", "better", "about as good")
    return (
        f"{opening}: gFMD {gfmd[1]:.2f} with it, {gfmd[0]:.2f} without (difference {chosen['low']:+.2f} to "
        f"{chosen['high']:+.2f}, 95 % interval, {scope}). Its tokens are {easier} to predict ({nats[1]:.3f} against "
        f"{nats[0]:.3f} nats per token on held-out images) and its reconstructions {worse} ({psnr[1]:.2f} against "
        f"{psnr[0]:.2f} dB PSNR).{limits}"
    )
