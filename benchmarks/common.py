"""What all benchmarks share: peers from where the user points, alternating timing, one JSON and one table each."""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

from vistok.engine.processors import THREAD_VARIABLES

THREADS = int(os.environ.get("BENCH_THREADS", os.cpu_count() or 1))
for variable in THREAD_VARIABLES:
    os.environ.setdefault(variable, str(THREADS))

LATE = 10**9  # a step by which everything is switched on
# Of the machine that docs/performance.md describes first; those of others go to a folder of their own, by BENCH_RESULTS.
RESULTS = Path(os.environ.get("BENCH_RESULTS", Path(__file__).resolve().parent / "results"))
PACKAGES = (
    "vistok",
    "torch",
    "numpy",
    "scipy",
    "vector-quantize-pytorch",
    "torch-fidelity",
    "clean-fid",
    "torchmetrics",
    "scikit-learn",
)


def arguments(doc: str, **options: Any) -> argparse.Namespace:
    """Parse --peer-path (a checkout of FoundationVision/LlamaGen), --repeats, and what a benchmark adds."""
    parser = argparse.ArgumentParser(description=doc)
    default = os.environ.get("PEER_PATH")
    parser.add_argument("--peer-path", type=Path, default=default and Path(default), help="checkout of LlamaGen")
    parser.add_argument("--repeats", type=int, default=5)
    for name, settings in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **settings)
    found = parser.parse_args()
    import torch

    torch.set_num_threads(THREADS)
    return found


def llamagen(path: Path | None) -> None:
    """Make the checkout importable, or say what is missing."""
    if path is None or not (path / "autoregressive").is_dir():
        sys.exit(f"--peer-path (or PEER_PATH) must name a checkout of FoundationVision/LlamaGen, found {path}")
    sys.path.insert(0, str(path))


def alternate(repeats: int, **runs: Callable[[], Any]) -> dict[str, list[float]]:
    """Time each function in turn, `repeats` rounds after one to warm up; return seconds by name."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for round_number in range(repeats + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if round_number:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def without_kernels(*modules: Any) -> ExitStack:
    """Let torch's operators do what these modules have in C++, inside a `with`."""
    stack = ExitStack()
    for module in modules:
        stack.enter_context(patch.object(module, "_library", lambda *_: None))
    return stack


def start_apart(make: Callable[..., Callable[[], Any]], arguments: tuple) -> tuple[Connection, Any]:
    """Start a process that makes a function and calls it for each message; return its pipe, to be closed at the end, and itself."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=_timed, args=(far, make, arguments), daemon=True)
    process.start()
    far.close()
    return near, process


def alternate_apart(repeats: int, **makers: tuple[Callable[..., Callable[[], Any]], tuple]) -> dict[str, list[float]]:
    """As `alternate`, each in a process of its own: how vistok allocates memory does not reach a peer.

    A maker is a module's function and its arguments; it returns what is timed.
    """
    started = {name: start_apart(*maker) for name, maker in makers.items()}
    found = alternate(repeats, **{name: partial(_ask, pipe) for name, (pipe, _) in started.items()})
    end_apart(started.values())
    return found


def end_apart(started: Iterable[tuple[Connection, Any]]) -> None:
    """End processes, all of them: one that still ends would slow down what is timed next."""
    started = list(started)
    for pipe, _ in started:
        pipe.close()
    for _, process in started:
        process.join()


def _ask(pipe: Connection) -> None:
    pipe.send("go")
    pipe.recv()


def _timed(pipe: Connection, make: Callable[..., Callable[[], Any]], arguments: tuple) -> None:
    import torch

    torch.set_num_threads(THREADS)
    run = make(*arguments)
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        run()
        pipe.send("done")


def median(values: list[float]) -> float:
    return statistics.median(values)


def peak_mib(run: Callable[[], Any]) -> float:
    """Return the memory that `run`, run for the first time, needs at most beyond what the process holds (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    before = _status("VmRSS")
    run()
    return max(0.0, _status("VmHWM") - before)


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def training_step(objective: Any, config: Any) -> Callable[[], None]:
    """Return a training step of an objective with all its losses on: what the loop does between two batches, averages too."""
    import torch
    from torch.nn.utils import clip_grad_norm_

    from vistok.engine.device import autocast
    from vistok.engine.distributed import ALONE
    from vistok.engine.ema import EMA
    from vistok.engine.phase import only
    from vistok.units import Scale

    phases = objective.phases(Scale(config.batch_size, 1, 1, (), 1000), ALONE)
    micro = objective.example(config.batch_size, torch.device("cpu"))
    averages = [EMA(objective.networks[name], config.ema_decay) for name in objective.averaged]

    def step() -> None:
        shared = dict(micro)
        for phase in phases:
            with only(phase, phases):
                with autocast(torch.device("cpu"), config.precision):
                    total = phase.loss(shared, LATE).total
                total.backward()
        for phase in phases:
            for parameters in phase.clip_groups.values():
                clip_grad_norm_(parameters, phase.clip_norm)
            phase.optimizer.step()
            phase.optimizer.zero_grad(set_to_none=True)
            if phase.after_step is not None:
                phase.after_step(LATE)
        for average in averages:
            average.update(LATE)

    return step


def matrix_rate() -> float:
    """Return the float32 operations per second of the faster of torch's two matrix products here, MKL and oneDNN."""
    import torch

    from vistok.nn.linear_kernels import frozen_linear

    a, packed = torch.randn(2048, 2048), frozen_linear(torch.randn(2048, 2048))
    seconds = alternate(15, plain=lambda: a @ a, packed=lambda: packed(a))
    return 2 * 2048**3 / min(map(median, seconds.values()))


def entry(
    name: str,
    ours: float,
    peer: float | None,
    unit: str,
    target: float | None = None,
    *,
    higher: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """Return a result; `ratio` is times better than the peer, whichever way is better."""
    ratio = None if peer is None else (ours / peer if higher else peer / ours)
    return {"name": name, "ratio": ratio, "target": target, "ours": ours, "peer": peer, "unit": unit, **more}


def machine() -> dict[str, Any]:
    """Return what a figure depends on besides the code."""
    from vistok.engine.run_dir import provenance

    found = provenance()
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    hardware = {key: found[key] for key in ("cpu", "cores", "platform")}
    return {"versions": versions, "threads": THREADS, "hardware": hardware, "commit": found["commit"]}


def earlier(question: str, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what an earlier run on the same machine saved under other names, for a benchmark that can be run in parts."""
    file, about = RESULTS / f"{question}.json", machine()
    names = {result["name"] for result in results}
    same = ("versions", "threads", "hardware")
    rows = json.loads(file.read_text()) if file.is_file() else []
    return [row for row in rows if row["name"] not in names and all(row[key] == about[key] for key in same)]


def save(question: str, results: list[dict[str, Any]], title: str, note: str = "") -> None:
    """Print a table, and write it with the JSON to benchmarks/results/."""
    RESULTS.mkdir(exist_ok=True)
    about = machine()
    rows = [{**about, **result} for result in results]
    text = [f"# {title}", "", "| what | ours | peer | unit | times better | target |", "|---|---|---|---|---|---|"]
    for result in results:
        cells = [number(result[key]) for key in ("ours", "peer")]
        ratio, target = (number(result[key]) for key in ("ratio", "target"))
        text.append(f"| {result['name']} | {cells[0]} | {cells[1]} | {result['unit']} | {ratio} | {target} |")
    about_text = f"{about['hardware']['cpu']}, {THREADS} threads, torch {about['versions']['torch']}"
    commits = {row["commit"] for row in rows}
    if len(commits) > 1:
        about_text += f"; rows of commits {', '.join(sorted(map(str, commits)))}"
    text += ["", *([note, ""] if note else []), f"{about_text}; `python {' '.join(sys.argv)}`"]
    for path, content in ((f"{question}.json", json.dumps(rows, indent=1)), (f"{question}.md", "\n".join(text) + "\n")):
        partial = RESULTS / (path + ".partial")
        partial.write_text(content)
        partial.replace(RESULTS / path)
    print("\n".join(text), flush=True)


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
