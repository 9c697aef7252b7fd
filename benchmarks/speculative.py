"""Speculative decoding: acceptance with trained pairs on Fashion-MNIST tokens, with and without the regularizer; step
costs at full size; and the speed-up that follows from both.

Trains two tokenizers, two generators and two drafts for every seed (seven minutes each; repeated, it goes on where it stopped).
"""

import json
import math
import shutil
import sys
from pathlib import Path

import torch
from common import alternate, arguments, entry, median, save

from vistok.config import override
from vistok.engine.log import Progress
from vistok.generator.autoregressive.config import AutoregressiveConfig, AutoregressiveSampling, paper_size
from vistok.generator.autoregressive.frozen import FrozenTransformer
from vistok.generator.autoregressive.generator import AutoregressiveGenerator
from vistok.generator.autoregressive.sampling import Guided
from vistok.generator.autoregressive.speculative import SpeculativeSampler
from vistok.generator.codes import choose
from vistok.generator.interface import Sampler
from vistok.recipes import find_recipe
from vistok.runs.load import load_generator
from vistok.scoring.evaluate_tokenizer import evaluate_tokenizer
from vistok.scoring.evaluators import choose_evaluator
from vistok.space import token_grid
from vistok.verbs import train_generator, train_tokenizer
from vistok.verbs.cache_latents import cache_tokens

_SHORT = ["length=400 steps", "data.max_images=20000"]
TOKENIZERS = {
    "none": ("fashion_vq", _SHORT),
    "l2_pre, weight 1": ("fashion_crt", [*_SHORT, "crt.variant=l2_pre", "crt.weight=1.0"]),
}
GENERATORS = {
    "target": [],
    "draft": ["generator.width=32", "generator.depth=1", "generator.num_heads=1"],
}
LOOKAHEADS = (1, 2, 4)
TARGETS = "targets.json"
DRAFT_AT_SIZE = AutoregressiveConfig(width=256, depth=2, num_heads=4)
GUIDANCE = (1.0, 1.5)


def trained(runs: Path, data: str, seed: int) -> dict:
    """Return name -> {"target", "draft": run paths, "nats", "psnr", "rfmd"}."""
    progress, found = Progress(), {}
    for name, (recipe, changes) in TOKENIZERS.items():
        config = override(find_recipe(recipe, "tokenizer"), [f'data.root="{data}"', f"seed={seed}", *changes])
        with progress.live():
            tokenizer = train_tokenizer.prepare(config, runs).train(progress).path
            caches = {split: cache_tokens(tokenizer, split, progress) for split in ("train", "val")}
            scores = evaluate_tokenizer(tokenizer, choose_evaluator(config.data), progress)
            found[name] = {"scores": scores}
            for role, changes in GENERATORS.items():
                run = override(find_recipe("fashion_ar", "generator"), [f"seed={seed}", *changes])
                job = train_generator.prepare(run, caches["train"], caches["val"], tokenizer, runs)
                found[name][role] = job.train(progress).path
    return found


def samplers(pair: dict, scale: float, lookahead: int) -> tuple[SpeculativeSampler, Sampler]:
    """Return the target's sampler with the draft, and without."""
    target, draft = (load_generator(pair[role]) for role in ("target", "draft"))
    sampling = AutoregressiveSampling(guidance_scale=scale)
    return SpeculativeSampler(FrozenTransformer(target), FrozenTransformer(draft), sampling, lookahead), target.sampler(
        sampling
    )


def acceptance(pair: dict, scale: float, lookahead: int, count: int) -> tuple[float, float, float]:
    """Return (tokens per pass of the target, share of guesses right, share of tokens equal to plain decoding's)."""
    sampler, plain = samplers(pair, scale, lookahead)
    labels, ids = torch.arange(count) % 10, torch.arange(count)
    same = float((sampler(labels, ids) == plain(labels, ids)).float().mean())
    return sampler.acceptance.tokens_per_pass, sampler.acceptance.rate, same


def equal_at_batch_one(pair: dict, scale: float, lookahead: int, count: int) -> float:
    """Return the share of tokens equal to plain decoding's where images are drawn one by one, as products then differ."""
    sampler, plain = samplers(pair, scale, lookahead)
    images = [(torch.tensor([i % 10]), torch.tensor([i])) for i in range(count)]
    return mean([float((sampler(*image) == plain(*image)).float().mean()) for image in images])


def costs(size: str, scale: float, repeats: int) -> dict[str, float]:
    """Return seconds of a pass at position 128 and the choice of its tokens: the target with 1 and n + 1, the draft with 1."""
    torch.manual_seed(0)
    models, sampling = {}, AutoregressiveSampling(guidance_scale=scale)
    for name, config in (("target", paper_size(size)), ("draft", DRAFT_AT_SIZE)):
        model = AutoregressiveGenerator(config, token_grid(16, 16, 16_384), 1_000)
        models[name] = Guided(FrozenTransformer(model), 1, scale, spare=16)

    def step(name: str, new: int) -> None:
        models[name].cache.length = 128
        logits = models[name].follow(torch.zeros(1, new, dtype=torch.int64))[0]
        choose(logits, torch.zeros(new, dtype=torch.int64), 128 + torch.arange(new), sampling)

    runs = {f"target {n + 1}": (lambda n=n: step("target", n + 1)) for n in (0, *LOOKAHEADS)}
    seconds = alternate(3 * repeats, **runs, draft=lambda: step("draft", 1))
    return {name: median(values) for name, values in seconds.items()}


def remember(runs: Path, seeds: list[int], pairs: list[dict]) -> None:
    """Write which run is whose: {tokenizer: {seed: the generator's folder}}."""
    found = {
        name: {seed: str(pair[name]["target"]) for seed, pair in zip(seeds, pairs, strict=True)} for name in TOKENIZERS
    }
    (runs / TARGETS).write_text(json.dumps(found, indent=1))


def target_of(runs: Path, tokenizer: str = "none", seed: int = 0) -> Path:
    """Return the generator that this benchmark trained, for others that need one."""
    if not (runs / TARGETS).is_file():
        sys.exit(f"no generator in {runs}: run `python benchmarks/speculative.py` first, or name one by --run")
    return Path(json.loads((runs / TARGETS).read_text())[tokenizer][str(seed)])


def copy_without_scores(run: Path, folder: Path) -> Path:
    """Copy a generator's run, so that it is scored anew and its own scores stay."""
    return Path(shutil.copytree(run, folder / run.name, ignore=shutil.ignore_patterns("evaluations", "checkpoints")))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def main() -> None:
    options = arguments(
        __doc__, runs={"type": Path, "default": Path("runs/speculative")}, data={"default": "data"},
        count={"type": int, "default": 1000}, seeds={"type": int, "nargs": "+", "default": [0, 1, 2]},
    )  # fmt: skip
    pairs = [trained(options.runs, options.data, seed) for seed in options.seeds]
    results, lines = [], []
    remember(options.runs, options.seeds, pairs)
    sizes = ("111m", "343m")
    price = {(size, scale): costs(size, scale, options.repeats) for size in sizes for scale in GUIDANCE}
    for name in TOKENIZERS:
        quality = [[pair[name]["scores"][score]["value"] for pair in pairs] for score in ("psnr", "rfmd")]
        lines.append(
            f"{name}: PSNR {mean(quality[0]):.2f} dB, rFMD {mean(quality[1]):.2f}, means of seeds {options.seeds}."
        )
        for scale in GUIDANCE:
            for lookahead in LOOKAHEADS:
                found = [acceptance(pair[name], scale, lookahead, options.count) for pair in pairs]
                per_pass, rate, same = (mean(list(values)) for values in zip(*found, strict=True))
                follows = {
                    size: per_pass * cost["target 1"] / (lookahead * cost["draft"] + cost[f"target {lookahead + 1}"])
                    for size, cost in ((size, price[size, scale]) for size in sizes)
                }
                what = f"{name}; guidance {scale:g}, {lookahead} ahead"
                by_seed = [rate for _, rate, _ in found]
                results.append(entry(f"tokens per pass: {what}", per_pass, 1.0, "tokens", higher=True, share_right=rate,
                                     share_right_by_seed=by_seed, equal_to_plain=same,
                                     speed_up_that_follows=follows))  # fmt: skip
                lines.append(
                    f"{what}: {rate:.1%} right (by seed {', '.join(f'{r:.1%}' for r in by_seed)}), {same:.3%} of tokens "
                    "equal plain decoding's; speed-up that follows with the step costs of "
                    + ", ".join(f"{size}: {value:.2f}" for size, value in follows.items())
                )
        for scale in GUIDANCE:
            one = mean([equal_at_batch_one(pair[name], scale, 2, 100) for pair in pairs])
            lines.append(
                f"{name}; guidance {scale:g}, 2 ahead, one image at a time: {one:.3%} of tokens equal plain decoding's."
            )
    for (size, scale), cost in price.items():
        lines.append(
            f"{size}, guidance {scale:g}: " + ", ".join(f"{name} {value * 1e3:.1f} ms" for name, value in cost.items())
        )
    assert all(math.isfinite(r["ours"]) for r in results)
    save("speculative", results, "Speculative decoding with a draft of the same tokens", "  \n".join(lines))


if __name__ == "__main__":
    main()
