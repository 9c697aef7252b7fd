"""What vistok does on a device: whether it computes what the CPU computes, and how fast. One command, eight minutes at most.

python benchmarks/device.py [--device cuda] [--peer-path LlamaGen] [--minutes 8] [--tiny] [--out FILE]

It needs torch and vistok and makes its own images. First it checks: a tokenizer and a generator are trained, cached and
sampled on the CPU and on the device, by the same commands; a run that stops and goes on must end with the same bits; then
the tests marked `device` run. Then it times sampling and training steps at 111M and 343M, LlamaGen's sampling beside ours
if its path is given, as shares of what the device's memory and matrix units reach here. A part for which no time is left is
named and left out. `--tiny` does all of it in a minute, at sizes that tell nothing. Exit code 1: a check failed.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, equal steps may differ in their last bits

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vistok.config import override
from vistok.engine.device import best_device, hardware
from vistok.engine.distributed import ALONE
from vistok.engine.ema import EMA
from vistok.engine.log import Progress, read_rows
from vistok.engine.objective import Objective
from vistok.engine.parallel import Whole
from vistok.engine.provenance import provenance
from vistok.engine.statistics import Statistics
from vistok.engine.step import take_step
from vistok.engine.training import Training
from vistok.generator.autoregressive.config import AutoregressiveConfig, AutoregressiveSampling, paper_size
from vistok.generator.autoregressive.generator import AutoregressiveGenerator
from vistok.recipes import find_recipe
from vistok.runs.config import GeneratorRun, RunConfig
from vistok.runs.latent_facts import LatentFacts
from vistok.runs.load import load_generator, load_tokenizer
from vistok.space import token_grid
from vistok.units import Scale
from vistok.verbs import train_generator, train_tokenizer
from vistok.verbs.cache_latents import cache_tokens

QUIET = Progress(quiet=True)
# How far the device may be from the CPU: float32 sums in another order, over some steps of training.
LOSS, PIXEL, TOKENS = 1e-3, 1e-3, 0.999
RATE_KIND = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Clock:
    """Waits for a device before it reads the time."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter()

    def median(self, run: Callable[[], Any], repeats: int) -> float:
        """Return the median seconds of a call, after two to warm up."""
        seconds = []
        for _ in range(repeats + 2):
            started = self.now()
            run()
            seconds.append(self.now() - started)
        return statistics.median(seconds[2:])


# --- Does it compute the same? ---------------------------------------------------------------------------------------


def make_images(folder: Path, count: int) -> None:
    """Write waves of two kinds, a sub-folder each."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64] / 10.0
    for i in range(count):
        place = folder / ("rings", "stripes")[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        middle, phase = generator.uniform(0, 6, 2), generator.uniform(0, 6)
        pattern = np.hypot(x - middle[0], y - middle[1]) if i % 2 == 0 else x + middle[0] * y
        channels = [127.5 + 127 * np.sin(pattern * (1 + c / 2) + phase) for c in range(3)]
        Image.fromarray(np.stack(channels, -1).astype(np.uint8)).save(place / f"{i}.png")


def tokenizer_job(images: Path, runs: Path, device: torch.device, *more: str) -> Any:
    settings = [
        f'data.root="{images}"', 'data.dataset="folder"', f'execution.device="{device}"', 'length="20 steps"',
        "execution.log_every=1", "execution.evaluate_every=20", "execution.tensorboard=false", "optimizer.lr=1e-4",
        "tokenizer.quantizer.start_after=null", "tokenizer.quantizer.restart_after=null", "batch_size=16", *more,
    ]  # fmt: skip
    config = override(find_recipe("images64_vq"), settings)
    return train_tokenizer.prepare(config, runs)


def losses_of(run: Path) -> list[float]:
    return [row["autoencoder/loss"] for row in read_rows(run / "metrics.jsonl") if row["kind"] == "train"]


def checks(place: Path, device: torch.device) -> Iterator[dict[str, Any]]:
    """Yield what was checked: name, how far from the CPU, how far is allowed, whether it passed."""
    images = place / "images"
    make_images(images, 120)
    cpu = torch.device("cpu")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    runs = {d: tokenizer_job(images, place / d.type / "a", d).train(QUIET).path for d in {cpu, device}}
    first, second = (np.array(losses_of(runs[d])) for d in (cpu, device))
    yield at_most("losses of 20 steps, greatest relative difference", np.abs(second / first - 1).max(), LOSS)

    models = {d: load_tokenizer(runs[cpu]).to(d) for d in {cpu, device}}
    batch = to_batch(images)
    tokens = {d: model.encode(batch.to(d)).cpu() for d, model in models.items()}
    yield at_least(
        "tokens of equal weights, share equal", float((tokens[cpu] == tokens[device]).float().mean()), TOKENS
    )
    pictures = {d: model.decode(tokens[cpu].to(d)).cpu() for d, model in models.items()}
    yield at_most(
        "pictures of equal tokens, greatest difference", (pictures[cpu] - pictures[device]).abs().max(), PIXEL
    )

    caches = [cache_tokens(runs[cpu], split, QUIET) for split in ("train", "val")]
    settings = ['length="20 steps"', "execution.log_every=1", "execution.tensorboard=false", "generator.dropout=0",
                "generator.label_dropout=0", "optimizer.lr=1e-4"]  # fmt: skip
    found = {}
    for d in {cpu, device}:
        config = override(find_recipe("debug_ar"), [*settings, f'execution.device="{d}"'])
        run = train_generator.prepare(config, *caches, runs[cpu], place / d.type / "g").train(QUIET).path
        found[d] = np.array([r["generator/loss"] for r in read_rows(run / "metrics.jsonl") if r["kind"] == "train"])
    yield at_most(
        "losses of a generator, greatest relative difference", np.abs(found[device] / found[cpu] - 1).max(), LOSS
    )

    generator = load_generator(next((place / "cpu" / "g").iterdir()))
    drawn = {d: generator.to(d).sample(torch.arange(16, device=d) % 2).cpu() for d in (cpu, device)}
    yield at_least("sampled tokens of equal weights and seed, share equal", equal_share(drawn, cpu, device), 0.9)
    greedy = AutoregressiveSampling(temperature=0.0)
    drawn = {d: generator.to(d).sample(torch.arange(2, device=d), sampling=greedy).cpu() for d in (cpu, device)}
    yield at_least("greedy tokens of equal weights, share equal", equal_share(drawn, cpu, device), 0.9)

    yield {"check": "stopped and resumed: equal bits", "found": resumes_equal(images, place, device), "limit": True}


def equal_share(drawn: dict[torch.device, Tensor], first: torch.device, second: torch.device) -> float:
    return float((drawn[first] == drawn[second]).float().mean())


def resumes_equal(images: Path, place: Path, device: torch.device) -> bool:
    """Whether a run that lost its last ten steps ends with the weights of one that did not; codes begin and restart."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    more = ("tokenizer.quantizer.start_after=5", "tokenizer.quantizer.restart_after=3", "execution.milestones=[10]")
    whole = tokenizer_job(images, place / "whole", device, *more).train(QUIET)
    shutil.copytree(place / "whole", place / "parts")
    parts = place / "parts" / whole.path.name
    (parts / "finished.json").unlink()
    shutil.rmtree(parts / "export")
    for file in (parts / "checkpoints").iterdir():
        if "20" in file.name:
            file.unlink()
    tokenizer_job(images, place / "parts", device, *more).train(QUIET)
    torch.use_deterministic_algorithms(False)
    digests = [json.loads((path / "finished.json").read_text())["digests"] for path in (whole.path, parts)]
    return bool(digests[0] == digests[1])


def to_batch(images: Path) -> Tensor:
    files = sorted(images.rglob("*.png"))[:16]
    arrays = np.stack([np.asarray(Image.open(file)) for file in files])
    return torch.from_numpy(arrays).permute(0, 3, 1, 2).float() / 127.5 - 1


def at_most(check: str, found: Any, limit: float) -> dict[str, Any]:
    return {"check": check, "found": float(found), "limit": limit, "passed": float(found) <= limit}


def at_least(check: str, found: Any, limit: float) -> dict[str, Any]:
    return {"check": check, "found": float(found), "limit": limit, "passed": float(found) >= limit}


def marked_tests(device: torch.device) -> dict[str, Any]:
    """Run the tests marked `device`, if this is a checkout."""
    tests = Path(__file__).resolve().parent.parent / "tests"
    command = [sys.executable, "-m", "pytest", "-m", "device", "-p", "no:cacheprovider", str(tests)]
    done = subprocess.run(
        command, env={**os.environ, "VISTOK_TEST_DEVICE": str(device)}, capture_output=True, text=True
    )
    lines = done.stdout.strip().splitlines()
    return {"check": "tests marked device", "found": lines[-1] if lines else done.stderr[-500:], "limit": "all pass",
            "passed": done.returncode == 0}  # fmt: skip


# --- How fast? -------------------------------------------------------------------------------------------------------


def limits(device: torch.device, clock: Clock, side: int, mib: int) -> dict[str, float]:
    """Return what the device reaches: bytes copied (read and written) a second, matrix operations a second by type."""
    block = torch.ones(mib * 2**20 // 4, device=device)
    target = torch.empty_like(block)
    found = {"bytes": 2 * block.numel() * 4 / clock.median(lambda: target.copy_(block), 5)}
    for name, kind in RATE_KIND.items():
        a, b = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
        found[name] = 2 * side**3 / clock.median(lambda a=a, b=b: a @ b, 5)  # type: ignore[misc]
    return found


def sampling_speed(
    config: AutoregressiveConfig,
    size: str,
    batch: int,
    precision: str,
    clock: Clock,
    rates: dict[str, float],
    peer: Any,
) -> dict[str, Any]:
    """Return tokens and images a second with guidance, and the share of what reading the weights once a token allows."""
    torch.manual_seed(0)
    model = AutoregressiveGenerator(config, token_grid(16, 16, 16_384), 1_000).to(clock.device).eval()
    torch.nn.init.normal_(model.head.weight, std=0.02)
    how = AutoregressiveSampling(guidance_scale=2.0, precision=precision)
    sampler, labels = model.sampler(how), torch.arange(batch, device=clock.device)
    seconds = clock.median(lambda: sampler(labels, labels), 3)
    width = 2 if precision == "bfloat16" else 4
    weights = sum(p.numel() for p in (*model.blocks.parameters(), *model.head.parameters())) * width
    row = {"what": f"sampling, {size}, batch {batch}, {precision}", "images_per_second": batch / seconds,
           "tokens_per_second": 256 * batch / seconds, "ms_per_token": seconds / 0.256,
           "share_of_bandwidth": weights * 256 / seconds / rates["bytes"]}  # fmt: skip
    if peer is not None:
        row["times_as_fast_as_llamagen"] = peer(size, batch, precision, clock) / seconds
    return row


def llamagen_seconds(path: Path) -> Callable[..., float]:
    """Return a function that times LlamaGen's generate with random weights of the same size."""
    sys.path.insert(0, str(path))
    from autoregressive.models.generate import generate
    from autoregressive.models.gpt import GPT_models

    def seconds(size: str, batch: int, precision: str, clock: Clock) -> float:
        model = GPT_models[{"111m": "GPT-B", "343m": "GPT-L"}[size]](
            vocab_size=16_384, block_size=256, num_classes=1000, cls_token_num=1
        )
        model = model.to(clock.device, RATE_KIND[precision]).eval()
        labels = torch.arange(batch, device=clock.device)
        with torch.no_grad():
            return clock.median(
                lambda: generate(model, labels, 256, cfg_scale=2.0, temperature=1.0, top_k=0, top_p=1.0), 3
            )

    return seconds


def training_speed(name: str, config: RunConfig, objective: Objective, clock: Clock, rates: dict[str, float],
                   flops: float, repeats: int) -> dict[str, Any]:  # fmt: skip
    """Return images a second of whole training steps, and the share of the matrix rate of the run's precision."""
    emas = {key: EMA(objective.networks[key], config.ema_decay) for key in objective.averaged}
    run = Training(
        name=name, phases=objective.phases(Scale(config.batch_size, 1, 1, (), 1000), ALONE), emas=emas,
        whole=Whole(emas, config.execution, ALONE), batches=lambda steps: iter(()), evaluate=lambda step, weights: {},
        total_steps=10**9, batch_size=config.batch_size, flops_per_step=(), lr=1e-6, seed=0,
        precision=config.precision, device=clock.device, execution=config.execution,
    )  # fmt: skip
    batch, statistics_ = objective.example(config.batch_size, clock.device), Statistics(ALONE)
    if "latents" in batch:
        batch["latents"] = torch.randint_like(batch["latents"], 16_384)
    else:
        batch["images"].uniform_(-1, 1)
    seconds = clock.median(lambda: take_step(run, batch, 10**6, statistics_), repeats)
    assert statistics_.read()[1] is None, f"{name}: a loss is not finite"
    row = {"what": f"training, {name}, batch {config.batch_size}, {config.precision}", "seconds_per_step": seconds,
           "images_per_second": config.batch_size / seconds,
           "share_of_matrix_rate": flops / seconds / rates[config.precision]}  # fmt: skip
    if clock.device.type == "cuda":
        row["peak_gib"] = torch.cuda.max_memory_allocated(clock.device) / 2**30
        torch.cuda.reset_peak_memory_stats(clock.device)
    return row


def generator_run(network: AutoregressiveConfig, batch: int, precision: str, compile_blocks: bool) -> GeneratorRun:
    run = find_recipe("imagenet256_ar_111m")
    assert isinstance(run, GeneratorRun)
    return run.replace(generator=network, batch_size=batch, precision=precision,
                       execution=run.execution.replace(compile=compile_blocks, micro_batch_size=None))  # fmt: skip


def speeds(device: torch.device, tiny: bool, peer: Any) -> Iterator[Callable[[], dict[str, Any]]]:
    """Yield what is to be timed, the most telling first."""
    clock = Clock(device)
    rates = limits(device, clock, 256 if tiny else 8192, 8 if tiny else 1024)
    yield lambda: {"what": "limits", **{f"{name}_per_second": rate for name, rate in rates.items()}}
    toy = AutoregressiveConfig(width=64, depth=1, num_heads=2)
    sizes = {"tiny": toy} if tiny else {size: paper_size(size) for size in ("111m", "343m")}
    repeats, space = (1 if tiny else 10), token_grid(16, 16, 16_384)
    for size, network in sizes.items():
        for batch, precision in ((1, "bfloat16"), (1, "float32"), (64, "bfloat16")):
            batch = min(batch, 2) if tiny else batch
            plain = network.replace(qk_norm=False)
            yield lambda n=plain, s=size, b=batch, p=precision: sampling_speed(n, s, b, p, clock, rates, peer)
        for compiled in (False, True)[: 1 if tiny else 2]:
            run = generator_run(network, 2 if tiny else 64, "bfloat16", compiled)
            facts = LatentFacts(space, 1_000)

            def trained(run: GeneratorRun = run, facts: LatentFacts = facts, size: str = size) -> dict[str, Any]:
                plan = train_generator.plan(run, facts, 1)
                objective = train_generator.build_objective(run, facts, device)
                if run.execution.compile:
                    for block in objective.networks["generator"].spread_units():  # type: ignore[operator]
                        block.compile()
                name = f"generator {size}" + (", compiled" if run.execution.compile else "")
                return training_speed(name, run, objective, clock, rates, plan.flops_per_step[0][1], repeats)

            yield trained
    for name in ("debug_crt",) if tiny else ("imagenet256_crt", "images64_crt"):

        def tokenizer(name: str = name) -> dict[str, Any]:
            run = find_recipe(name)
            size = 2 if tiny else 16 if name.startswith("imagenet") else 64
            losses = run.losses.replace(perceptual=None, adversarial=None)
            run = run.replace(batch_size=size, losses=losses, execution=run.execution.replace(micro_batch_size=None))
            objective = train_tokenizer.build_objective(run, device)
            plan = train_tokenizer.plan(run, 1_000)
            return training_speed(f"tokenizer {name} without perceptual and adversarial losses", run, objective, clock,
                                  rates, plan.flops_per_step[-1][1], repeats)  # fmt: skip

        yield tokenizer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default=None)
    parser.add_argument("--peer-path", type=Path, default=None, help="checkout of LlamaGen")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--without-tests", action="store_true", help="leave out the tests marked device")
    parser.add_argument("--out", type=Path, default=None, help="where the figures go, as JSON")
    options = parser.parse_args()
    device = torch.device(options.device) if options.device else best_device()
    end = time.monotonic() + 60 * options.minutes
    found: dict[str, Any] = {"device": hardware(device), **provenance(), "checks": [], "speeds": [], "left_out": []}
    print(f"{found['device']}, torch {torch.__version__}", flush=True)
    with tempfile.TemporaryDirectory() as place:
        for check in checks(Path(place), device):
            found["checks"].append({"passed": check["found"] == check["limit"], **check})
            print(json.dumps(found["checks"][-1]), flush=True)
    if not options.without_tests:
        found["checks"].append(marked_tests(device))
        print(json.dumps(found["checks"][-1]), flush=True)
    peer = llamagen_seconds(options.peer_path) if options.peer_path else None
    for number, speed in enumerate(speeds(device, options.tiny, peer)):
        if time.monotonic() > end:
            found["left_out"].append(number)
            continue
        row = speed()
        found["speeds"].append(row)
        print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}), flush=True)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if all(check["passed"] for check in found["checks"]) else 1


if __name__ == "__main__":
    sys.exit(main())
