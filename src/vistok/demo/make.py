"""The main job: two tokenizers alike but for the regularizer, a generator on each, scores, one page.

Every stage is a run or an evaluation of its own, so repeating the command does only what is missing.
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

# Shares of a stage in the whole, for the time that is left (seconds of the short run on two cores).
WEIGHTS = {
    "train tokenizer": 75,
    "cache tokens": 20,
    "score tokenizer": 20,
    "train generator": 55,
    "likelihood": 8,
    "choose guidance on held-out train images": 18,
    "sample and score": 65,
}
# What is compared between the arms, with intervals: name -> where its score lies in an arm's results.
COMPARED = {
    "gfmd_chosen": ("generator", "scores", "chosen", "gfmd"),
    "gfmd_off": ("generator", "scores", "off", "gfmd"),
    "nats_per_token": ("generator", "likelihood", "ema", "nats_per_token"),
    "psnr": ("tokenizer", "scores", "ema", "psnr"),
}


def run_demo(size: str, data: Path, runs: Path, progress: Progress) -> tuple[Path, str]:
    """Do what is missing of the demo; return its page and the answer in a sentence."""
    demo = SIZES[size]
    folder, page = RunDir(runs / f"demo-{size}"), demo_page(size, runs)
    with folder:
        configs = _configs(demo, data)
        progress.say(f"Two tokenizers, two generators, {len(demo.seeds)} seed(s); about {_minutes(size)} on two cores.")
        repeats = len(demo.seeds) * len(ARMS)
        with progress.task("the whole demo", repeats * sum(WEIGHTS.values())) as whole:
            stages = _Stages(progress, repeats * len(WEIGHTS), whole)
            results = [{arm: _arm(demo, configs, arm, seed, runs, stages) for arm in ARMS} for seed in demo.seeds]
        extractor = choose_evaluator(configs[0].data)
        progress.say("distance of real images, and the page")
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
    """Tells the stages, and shows how far the whole has come."""

    def __init__(self, progress: Progress, total: int, whole: Task) -> None:
        self.progress, self.whole = progress, whole
        self.total, self.done = total, 0

    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """Announce a stage, and count it when it is done."""
        self.done += 1
        self.progress.say(f"[{self.done}/{self.total}] {name}")
        yield self.progress
        self.whole.advance(WEIGHTS[name.split(" (")[0]])


def _configs(demo: DemoSize, data: Path) -> tuple[TokenizerRun, TokenizerRun, GeneratorRun]:
    root = f"data.root={json.dumps(str(data))}"
    baseline, crt = (override(find_recipe(name, "tokenizer"), [root]) for name in demo.recipes[:2])
    # Equal training FLOPs: the regularized arm takes fewer steps, by what the regularizer costs.
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
    """Return the scores, guidance off and chosen; both in both evaluators' features."""

    def scored(of: Stage2, guidance: float) -> dict[str, Any]:
        drawing = Drawing(of.sampling(guidance_scale=guidance), demo.num_samples)
        return evaluate_generator(of, against, drawing, progress)

    found = {"off": scored(stage2, 1.0), "chosen": scored(stage2, scale)}
    if "raw" in demo.weights:
        found["raw"] = scored(load_stage2(stage2.run, "raw"), 1.0)
    return found


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
    """Return the last value of this name in a run's rows."""
    return float([row[name] for row in read_rows(run.metrics) if name in row][-1])


def _floor(extractor: FeatureExtractor, data: DataConfig) -> dict[str, Any]:
    """Return the distance that real images reach: up to 10,000 training images against the test set."""
    train = open_split(data, "train")
    chosen = stable_choice(0, "floor", len(train), 10_000)
    features = reference_set(extractor, train, data, "train").features[chosen]
    reference = reference_set(extractor, open_split(data, "test"), data, "test")
    found = frechet_replicates(features, Moments.of(reference.features))
    return (
        Measured("", extractor, reference, Treatment(weights="none"), len(chosen))
        .frechet(found)
        .model_dump(mode="json")
    )


def _difference(results: list[dict[str, Any]], path: tuple[str, ...]) -> dict[str, float]:
    """Return crt - baseline of a score, with its interval.

    One seed: the noise of the scored images alone (jackknife, paired). Several: paired t-interval over seeds.
    """
    found = []
    for result in results:
        baseline, crt = (Score.from_json(json.dumps(dig(result[arm], path))) for arm in ARMS)
        found.append(crt.minus(baseline))
    interval: Interval | None = found[0].interval
    if len(found) > 1:
        interval = t_interval([replicates.value for replicates in found])
    assert interval is not None  # the demo scores hundreds of images
    return {"value": interval.value, "corrected": interval.corrected, "low": interval.low, "high": interval.high}


def verdict(difference: dict[str, float], less: str, more: str, neither: str) -> str:
    """Return the word for a difference (crt - baseline), by its interval."""
    return less if difference["high"] < 0 else more if difference["low"] > 0 else neither


def mean_of(results: list[dict[str, Any]], arm: str, path: tuple[str, ...]) -> float:
    """Return the mean over seeds of one score of an arm."""
    values = [float(dig(result[arm], path)["value"]) for result in results]
    return sum(values) / len(values)


def answer(facts: dict[str, Any]) -> str:
    """Return the answer in a sentence or three: what the intervals say, no more."""
    results, differences = facts["results"], facts["differences"]
    (gfmd, nats, psnr) = (
        [mean_of(results, arm, COMPARED[name]) for arm in ARMS] for name in ("gfmd_chosen", "nats_per_token", "psnr")
    )
    chosen = differences["gfmd_chosen"]
    opening = verdict(
        chosen,
        "At equal training compute the causal regularizer made generation better",
        "At equal training compute the causal regularizer made generation worse",
        "These runs do not resolve whether the causal regularizer helps generation",
    )
    seeds = len(facts["seeds"])
    scope = f"over {seeds} training seeds" if seeds > 1 else "noise of sampling alone"
    limits = "" if seeds > 1 else " This is one pair of runs: another training seed may differ by more."
    easier = verdict(differences["nats_per_token"], "easier", "harder", "about as easy")
    worse = verdict(differences["psnr"], "worse", "better", "about as good")
    return (
        f"{opening}: gFMD {gfmd[1]:.2f} with it, {gfmd[0]:.2f} without (difference {chosen['low']:+.2f} to "
        f"{chosen['high']:+.2f}, 95 %, {scope}). Its tokens are {easier} to predict ({nats[1]:.3f} against {nats[0]:.3f} "
        f"nats per token on held-out images) and its reconstructions {worse} ({psnr[1]:.2f} against {psnr[0]:.2f} dB "
        f"PSNR).{limits}"
    )
