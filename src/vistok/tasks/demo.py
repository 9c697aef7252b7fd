"""The main job: two tokenizers alike but for the regularizer, a generator on each, scores, one page.

Every stage is a run or an evaluation of its own, so repeating the command does only what is missing.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vistok.config import override
from vistok.data.config import DataConfig
from vistok.data.open import open_split
from vistok.data.token_cache import TokenCache
from vistok.engine.files import write_atomic, write_json
from vistok.engine.log import Progress, Task, read_rows
from vistok.engine.run_dir import RunDir, provenance
from vistok.generator.config import SamplingConfig
from vistok.metrics.features import FeatureExtractor
from vistok.metrics.interval import Interval, difference_interval, t_interval
from vistok.metrics.moments import Moments
from vistok.metrics.protocol import Protocol, Treatment, require_same
from vistok.nn.flops import count_flops, on_meta
from vistok.recipes import find_recipe
from vistok.rng import stable_choice
from vistok.tasks import train_generator, train_tokenizer
from vistok.tasks.cache_tokens import cache_tokens
from vistok.tasks.config import GeneratorRun, TokenizerRun
from vistok.tasks.demo_sizes import ARMS, SIZES, DemoSize, demo_page, identity
from vistok.tasks.evaluate_generator import choose_guidance, evaluate_generator
from vistok.tasks.evaluate_likelihood import evaluate_likelihood
from vistok.tasks.evaluate_tokenizer import evaluate_tokenizer, frechet_score
from vistok.tasks.evaluators import choose_evaluator, reference_set
from vistok.tokenizer.model import ConvTokenizer

# Shares of a stage in the whole, for the time that is left (seconds of the short run on two cores).
WEIGHTS = {
    "train tokenizer": 75,
    "cache tokens": 20,
    "score tokenizer": 20,
    "train generator": 55,
    "likelihood": 8,
    "choose guidance on held-out train images": 10,
    "sample and score": 65,
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
            stages = _Stages(folder.path, progress, repeats * len(WEIGHTS), whole)
            results = [{arm: _arm(demo, configs, arm, seed, runs, stages) for arm in ARMS} for seed in demo.seeds]
        extractor = choose_evaluator(configs[0].data)
        progress.say("distance of real images, and the page")
        floor = _floor(extractor, configs[0].data)
        facts = {
            "size": size,
            "seeds": list(demo.seeds),
            "results": results,
            "floor": floor,
            "difference": _differences(results, runs, extractor, configs[0].data),
            "seconds": stages.seconds,
            "provenance": provenance(),
        }
        sentence = answer(facts)
        facts["answer"] = sentence
        from vistok.tasks.demo_page import render

        write_json(folder.path / "demo.json", facts)
        write_atomic(page, render(facts, runs, configs[0].data).encode())
        folder.finish(identity=identity(size), answer=sentence)
    return page, sentence


def _minutes(size: str) -> str:
    return {"tiny": "a minute", "short": "8 minutes", "full": "an hour"}[size]


class _Stages:
    """Times stages, across repeats of the command, and shows how far the whole has come."""

    def __init__(self, folder: Path, progress: Progress, total: int, whole: Task) -> None:
        self.file = folder / "seconds.json"
        self.seconds: dict[str, float] = json.loads(self.file.read_text()) if self.file.is_file() else {}
        self.progress, self.whole = progress, whole
        self.total, self.done = total, 0

    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """Time a stage; the longest time it ever took is kept (a repeat that only reads takes none)."""
        self.done += 1
        self.progress.say(f"[{self.done}/{self.total}] {name}")
        started = time.monotonic()
        yield self.progress
        self.seconds[name] = max(self.seconds.get(name, 0.0), time.monotonic() - started)
        write_json(self.file, self.seconds)
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
        guidance = choose_guidance(generator.path, extractor, progress, demo.scales, demo.search_samples)
    with stages.stage(f"sample and score ({label})") as progress:
        samples = _score_samples(generator.path, extractor, second, guidance["guidance_scale"], demo, progress)
    return {
        "tokenizer_run": tokenizer.path.name,
        "generator_run": generator.path.name,
        "tokenizer": {
            **_training(tokenizer),
            "scores": scores,
            "psnr_raw": _last(tokenizer, "psnr_raw"),
            "latent_variance": _last(tokenizer, "autoencoder/latent_variance"),
        },
        "generator": {**_training(generator), "likelihood": likelihood, "guidance": guidance, "scores": samples},
        "flops": _other_flops(config, job.config, caches, demo, guidance["guidance_scale"]),
    }


def _score_samples(
    run: Path, first: FeatureExtractor, second: FeatureExtractor, scale: float, demo: DemoSize, progress: Progress
) -> dict[str, Any]:
    """Return the scores, guidance off and chosen; both in both evaluators' features."""
    off, chosen = SamplingConfig(), SamplingConfig(guidance_scale=scale)
    found = {
        "off": evaluate_generator(run, first, progress, off, demo.num_samples, second=second),
        "chosen": evaluate_generator(run, first, progress, chosen, demo.num_samples, second=second),
    }
    if "raw" in demo.weights:
        found["raw"] = evaluate_generator(run, first, progress, off, demo.num_samples, weights="raw", second=second)
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
    """Return the last validation value of this name."""
    return float([row[name] for row in read_rows(run.metrics) if name in row][-1])


def _other_flops(
    tokenizer: TokenizerRun, generator: Any, caches: dict[str, TokenCache], demo: DemoSize, scale: float
) -> dict[str, float]:
    """Return FLOPs of caching and of drawing the scored samples, from one forward pass per image."""
    model = on_meta(lambda: ConvTokenizer(tokenizer.tokenizer))
    size, channels = tokenizer.tokenizer.image_size, tokenizer.tokenizer.in_channels
    encode = count_flops(lambda: model.to_latents(torch.empty(1, channels, size, size, device="meta")))
    codes = torch.empty(1, model.token_grid.num_tokens, model.quantizer.code_dim, device="meta")
    decode = count_flops(lambda: model.to_images(codes, model.token_grid))
    manifest = {"grid": caches["train"].manifest.grid, "codebook_size": model.codebook_size, "num_classes": 10}
    backward_too = train_generator.plan(generator, manifest, 1).flops_per_step[0][1]
    forward = backward_too / 3 / generator.batch_size
    passes = 2 if scale != 1.0 else 1
    return {
        "cache": encode * sum(cache.num_images for cache in caches.values()),
        "sample": demo.num_samples * (passes * forward + decode),
    }


def _floor(extractor: FeatureExtractor, data: DataConfig) -> dict[str, Any]:
    """Return the distance that real images reach: 10,000 training images against the test set."""
    train = open_split(data, "train")
    chosen = stable_choice(0, "floor", len(train), min(10_000, len(train)))
    features = reference_set(extractor, train, data, "train").features[chosen]
    reference = reference_set(extractor, open_split(data, "test"), data, "test")
    return frechet_score("", features, reference, extractor, Treatment()).model_dump()


def _differences(
    results: list[dict[str, Any]], runs: Path, extractor: FeatureExtractor, data: DataConfig
) -> dict[str, Any]:
    """Return crt - baseline of gFMD with its interval, guidance off and chosen.

    One seed: the noise of sampling alone (jackknife, paired). Several: paired t-interval over seeds.
    """
    reference = Moments.of(reference_set(extractor, open_split(data, "test"), data, "test").features)
    found = {}
    for key in ("off", "chosen"):
        pairs = [[result[arm]["generator"]["scores"][key] for arm in ARMS] for result in results]
        for a, b in pairs:
            require_same(Protocol(**a["gfmd"]["protocol"]), Protocol(**b["gfmd"]["protocol"]))
        if len(results) > 1:
            interval = t_interval([b["gfmd"]["value"] - a["gfmd"]["value"] for a, b in pairs])
        else:
            features = [
                np.load(runs / results[0][arm]["generator_run"] / "evaluations" / scores["features"])
                for arm, scores in zip(ARMS, pairs[0], strict=True)
            ]
            interval = difference_interval(features[0], features[1], reference)
        found[key] = _plain_interval(interval)
    return found


def _plain_interval(interval: Interval) -> dict[str, float]:
    return {"value": interval.value, "corrected": interval.corrected, "low": interval.low, "high": interval.high}


def verdict(low: float, high: float) -> str:
    """Return what an interval of (crt - baseline) of a distance says."""
    return "better" if high < 0 else "worse" if low > 0 else "not resolved"


def mean_of(results: list[dict[str, Any]], arm: str, *path: str) -> float:
    """Return the mean over seeds of one number of an arm."""
    values = []
    for result in results:
        value: Any = result[arm]
        for part in path:
            value = value[part]
        values.append(float(value))
    return sum(values) / len(values)


def answer(facts: dict[str, Any]) -> str:
    """Return the answer in a sentence or three: what the intervals say, no more."""
    results, difference = facts["results"], facts["difference"]["chosen"]
    path = ("generator", "scores", "chosen", "gfmd", "value")
    baseline, crt = (mean_of(results, arm, *path) for arm in ARMS)
    nats = [mean_of(results, arm, "generator", "likelihood", "ema", "nats_per_token") for arm in ARMS]
    psnr = [mean_of(results, arm, "tokenizer", "scores", "ema", "psnr") for arm in ARMS]
    found = verdict(difference["low"], difference["high"])
    seeds = len(facts["seeds"])
    interval = f"{difference['low']:+.2f} to {difference['high']:+.2f}"
    opening = {
        "better": f"At equal training compute the causal regularizer made generation better: gFMD {crt:.2f} against {baseline:.2f}",
        "worse": f"At equal training compute the causal regularizer made generation worse: gFMD {crt:.2f} against {baseline:.2f}",
        "not resolved": f"So short a run does not resolve whether the causal regularizer helps: gFMD {crt:.2f} with it, {baseline:.2f} without",
    }[found]
    scope = (
        f"over {seeds} training seeds"
        if seeds > 1
        else "from the noise of sampling alone: one training seed, and another seed may differ by more"
    )
    easier = "easier" if nats[1] < nats[0] else "harder"
    return (
        f"{opening} (difference's 95 % interval {interval}, {scope}). Its tokens are {easier} to predict "
        f"({nats[1]:.3f} against {nats[0]:.3f} nats per token on held-out images) and its reconstructions "
        f"{'worse' if psnr[1] < psnr[0] else 'better'} ({psnr[1]:.2f} against {psnr[0]:.2f} dB PSNR)."
    )
