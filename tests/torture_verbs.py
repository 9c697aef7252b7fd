"""Strike every verb at its file operations: killed, or the disk failing; repeat the command, and compare what there is.

    python tests/torture_verbs.py --seconds 300 --out results/torture/verbs.json

Each verb runs once unharmed, which counts its operations, and a few times as two at once. Then it is killed at one of its
operations, or one of them fails with EIO (reads, writes, syncs, renames) or ENOSPC (writes, syncs, renames, new folders);
a failing disk must end in a sentence or in the same result, never in a traceback. The command is then repeated and must
give the same result. Every operation is struck where the time allows, else as many of each kind, chosen by a fixed seed.
Last, a run is moved while it trains.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, wraps
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torture_contents import contents, same
from torture_faults import FAILING, Faults
from vistok import cli
from vistok.cli.options import recipe_config
from vistok.cli.study import study_config
from vistok.data.images import fashion_mnist
from vistok.data.images.fashion_mnist import load as load_fashion_mnist
from vistok.data.images.sources import ArraySource
from vistok.demo import make as demo_make
from vistok.demo import sizes as demo_sizes
from vistok.demo.arm import run_arm
from vistok.errors import UserError
from vistok.recipes import debug, find_recipe
from vistok.recipes.debug import debug_ar, debug_vq
from vistok.study.run import executor as study_executor
from vistok.study.run import worker
from vistok.study.run.grid import expand
from vistok.units import steps
from vistok.verbs import train_generator, train_tokenizer

DATA = Path(__file__).resolve().parent.parent / "data"
QUICK = ["execution.tensorboard=false", "execution.log_every=1"]
GRID = {
    "name": "main",
    "tokenizers": [{"name": "none"}],
    "generators": [{"name": "s", "set": ["generator.width=16"]}],
    "lengths": ["2 steps", "3 steps"],
}
# Images of each split.
IMAGES = 60
# How often two of a verb run at once, at most.
PAIRS = 5
DEMO = demo_sizes.DemoSize((0,), "debug_ar", 40, 1.5, ("debug_vq", "debug_crt"))
# Which fault, at which kind of operation, at which of these.
Fault = tuple[str, str, int]


@dataclass(frozen=True)
class Verb:
    """A command, which writes below {out} and reads {given}; `weight`: its share of the time beside the others'."""

    command: str
    settings: tuple[str, ...] = ()
    weight: float = 1.0

    def arguments(self, given: Path, out: Path) -> list[str]:
        words = [word.format(given=given, out=out, data=DATA) for word in self.command.split()]
        return [*words, *(part for setting in self.settings for part in ("--set", setting))]


VERBS = {
    "cache": Verb("cache {given}/tokenizer --split train --out {out}/cache"),
    "import hub": Verb("import hub {given}/hub --out {out}/run"),
    "import llamagen": Verb("import llamagen {given}/vq.pt --out {out}/run --image-size 16"),
    "export hub": Verb("export hub {given}/generator --repo someone/something --out {out}/hub"),
    "export llamagen": Verb("export llamagen {given}/foreign --out {out}/vq.pt"),
    "sample grid": Verb("sample {given}/generator --count 4 --out {out}/samples"),
    "sample png": Verb("sample {given}/generator --count 4 --format png --out {out}/samples"),
    "sample npz": Verb("sample {given}/generator --count 4 --format npz --out {out}/samples"),
    "train tokenizer": Verb(
        "train tokenizer debug_vq --data {data} --runs {out}/runs",
        (*QUICK, "length=6 steps", "execution.checkpoint_minutes=1e-6"),
    ),
    "study": Verb(
        "study run debug_study --data {data} --runs {out}/runs --out {out}/results --processes 1 --threads 1",
        ("tokenizer.length=2 steps", "scoring.samples=40", "scoring.scales=[1.0]", f"grids={json.dumps([GRID])}"), weight=4,
    ),
    "demo": Verb("demo --tiny --data {data} --runs {out}/runs", weight=4),
}  # fmt: skip


class _InThisProcess:
    """Study tasks in the process that is struck."""

    slots = 1

    def __init__(self) -> None:
        self.ended: list[tuple[str, str | None]] = []

    def submit(self, order) -> None:
        order.write()
        try:
            worker.perform(order)
            self.ended.append((order.run, None))
        except (UserError, OSError) as error:
            self.ended.append((order.run, str(error)))

    def wait(self):
        ended, self.ended = self.ended, []
        return ended

    def close(self) -> None:
        pass


@cache
def few_images(root: Path, split: str) -> ArraySource:
    """Return a split of Fashion-MNIST cut down to IMAGES images: every file operation, and little to compute."""
    whole = load_fashion_mnist(root, split)
    return whole.subset(np.arange(IMAGES), f"the first {IMAGES}")


def short(recipe: Callable[[], Any]) -> Callable[[], Any]:
    """Return the recipe with a training of a few steps."""

    @wraps(recipe)
    def shortened() -> Any:
        return recipe().replace(length=steps(3))

    return shortened


def make_small() -> None:
    """Shrink data, validations and toy trainings in this process, and perform the tasks of a study in it."""
    torch.set_num_threads(1)
    fashion_mnist.load = few_images
    train_tokenizer.EVAL_IMAGES, train_generator.EVAL_IMAGES = 20, 20
    demo_sizes.SIZES["tiny"] = DEMO
    demo_make.run_side_by_side = lambda arms, progress, meanwhile: [
        meanwhile(),
        *(run_arm(arm, progress) for arm in arms),
    ][0]
    debug.debug_vq, debug.debug_ar = short(debug_vq), short(debug_ar)
    study_executor.make_executor = lambda *rest: _InThisProcess()


def work(arguments: list[str], folder: Path, report: Path, fault: Fault | None) -> None:
    """Be the command line: what it says goes to `report`.said."""
    said = os.open(report.with_suffix(".said"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(said, stream)
    make_small()
    faults = Faults(folder, report, fault)
    faults.install()
    sys.argv = ["vistok", *arguments]
    try:
        cli.main()
    finally:
        faults.done()


class Torture:
    """A folder for one verb after the other: what is given, and what comes out."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.given, self.out, self.reports = folder / "given", folder / "work" / "out", folder / "reports"
        for path in (self.given, self.out.parent, self.reports):
            path.mkdir(parents=True)
        self.random = random.Random(seed)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["torture_verbs"])
        self.problems: list[str] = []
        self.wholes: dict[str, dict] = {}
        self.operations: dict[str, dict[str, int]] = {}
        self.seconds: dict[str, float] = {}
        self.came = False  # whether the last strike's operation was reached

    def start(self, arguments: list[str], fault: Fault | None = None, name: str = "one"):
        for suffix in ("", ".said", ".counts"):
            (self.reports / f"{name}{suffix}").unlink(missing_ok=True)
        folder = self.out.parent
        process = self.context.Process(target=work, args=(arguments, folder, self.reports / name, fault))
        process.start()
        return process

    def said(self, name: str = "one") -> str:
        path = self.reports / f"{name}.said"
        return path.read_text(errors="replace") if path.is_file() else ""

    def run(self, arguments: list[str], fault: Fault | None = None) -> int:
        process = self.start(arguments, fault)
        process.join()
        return process.exitcode

    def prepare(self) -> None:
        """Make what the verbs read: a tokenizer, a generator, a hub's folder, a foreign file."""
        from vistok.config import override
        from vistok.engine.log import Progress
        from vistok.verbs.cache_latents import cache_tokens

        make_small()
        quiet = Progress(quiet=True)
        config = override(find_recipe("debug_vq"), [*QUICK, f'data.root="{DATA}"', "length=2 steps"])
        run = train_tokenizer.prepare(config, self.given / "runs").train(quiet).path
        caches = [cache_tokens(run, split, quiet) for split in ("train", "val")]
        config = override(find_recipe("debug_ar"), [*QUICK, "length=2 steps"])
        generator = train_generator.prepare(config, *caches, run, self.given / "runs").train(quiet).path
        for name, path in (("tokenizer", run), ("generator", generator)):
            (self.given / name).symlink_to(path)
        self._foreign()
        for arguments in (
            ["export", "hub", str(generator), "--repo", "someone/something", "--out", str(self.given / "hub")],
            [
                "import",
                "llamagen",
                str(self.given / "vq.pt"),
                "--out",
                str(self.given / "foreign"),
                "--image-size",
                "16",
            ],
        ):
            assert self.run(arguments) == 0, self.said()

    def _foreign(self) -> None:
        from vistok.interop.autoencoder_names import to_theirs
        from vistok.tokenizer.bottlenecks.config import VQConfig
        from vistok.tokenizer.config import ConvNetConfig, ConvTokenizerConfig
        from vistok.tokenizer.networks.conv import ConvTokenizer

        side = ConvNetConfig(channels=32, multipliers=(1, 2), attention_resolutions=(8,))
        quantizer = VQConfig(codebook_size=32)
        network = ConvTokenizerConfig(image_size=16, latent_channels=8, encoder=side, decoder=side, quantizer=quantizer)
        model = ConvTokenizer(network)
        theirs = to_theirs(model.state_dict(), model.config, "llamagen")
        torch.save({"model": theirs | {"quantize.codebook_used": torch.zeros(65536)}}, self.given / "vq.pt")

    def clear(self) -> None:
        shutil.rmtree(self.out.parent)
        self.out.mkdir(parents=True)

    def whole(self, name: str) -> None:
        """Run a verb unharmed; note its result, and its operations by fault."""
        self.clear()
        started = time.monotonic()
        assert self.run(self.arguments(name)) == 0, f"{name}: {self.said()}"
        self.seconds[name] = time.monotonic() - started
        self.wholes[name] = contents(self.out)
        self.operations[name] = json.loads((self.reports / "one.counts").read_text())

    def arguments(self, name: str) -> list[str]:
        return VERBS[name].arguments(self.given, self.out)

    def strike(self, name: str, fault: Fault) -> str | None:
        """Strike a verb once and repeat it; return what is wrong with what came of it."""
        self.clear()
        code, said = self.run(self.arguments(name), fault), self.said()
        self.came = (self.reports / "one").is_file()
        where = (self.reports / "one").read_text() if self.came else "nowhere"
        if fault[0] != "KILL":
            if "Traceback" in said:
                return f"{where}: a traceback, {said.strip().splitlines()[-1]}"
            if code == 0 and (wrong := self.difference(name)):
                return f"{where}: exit code 0, but {wrong}"
        for _ in range(2):  # a verb may have to be told that what it kept is damaged
            code = self.run(self.arguments(name))
            if code == 0:
                break
        if code:
            return f"{where}: repeated, {self.said().strip().splitlines()[-1:]}"
        wrong = self.difference(name)
        return f"{where}: repeated, {wrong}" if wrong else None

    def difference(self, name: str) -> str | None:
        found = contents(self.out)
        whole = self.wholes[name]
        if missing := sorted(whole.keys() - found.keys()):
            return f"lacks {missing[0]}"
        if more := sorted(found.keys() - whole.keys()):
            return f"has {more[0]}"
        differing = [path for path in whole if not same(whole[path], found[path])]
        return f"{differing[0]} differs" if differing else None

    def two(self, name: str) -> str | None:
        """Run a verb twice at once, the second while the first is at work: one or both must end well, with one's result."""
        self.clear()
        processes = [self.start(self.arguments(name), name="at once 1")]
        processes[0].join(self.random.uniform(0, self.seconds[name]))
        processes.append(self.start(self.arguments(name), name="at once 2"))
        for process in processes:
            process.join()
        codes = [process.exitcode for process in processes]
        said = [self.said(f"at once {number}") for number in (1, 2)]
        if any("Traceback" in text for text in said):
            return "a traceback"
        if 0 not in codes:
            return f"neither ended well: {[text.strip().splitlines()[-1:] for text in said]}"
        return self.difference(name)

    def moved(self) -> str | None:
        """Move a run away while it trains, see that it stops, move it back and repeat."""
        name = "train tokenizer"
        self.clear()
        process = self.start(self.arguments(name))
        run, deadline = None, time.monotonic() + 120
        while run is None and process.is_alive() and time.monotonic() < deadline:
            run = next(iter(self.out.glob("runs/*/checkpoints")), None)
        if run is None:
            return "never came to a checkpoint"
        run = run.parent
        run.rename(self.out / "moved")
        process.join()
        if process.exitcode == 0 or "was moved or removed" not in self.said():
            return f"exit code {process.exitcode}: {self.said().strip().splitlines()[-1:]}"
        if run.exists():
            return "made anew where it was"
        (self.out / "moved").rename(run)
        if self.run(self.arguments(name)):
            return f"moved back: {self.said().strip().splitlines()[-1:]}"
        return self.difference(name)


def torture(folder: Path, names: list[str], seconds: float, seed: int = 0, out: Path | None = None) -> dict[str, dict]:
    """Return verb -> what was struck and what came of it; prints, and writes `out`, as it goes."""
    found = Torture(folder, seed)
    found.prepare()
    started = time.monotonic()
    results: dict[str, dict] = {}
    for number, name in enumerate(names):
        # What an earlier verb did not need of its share of the time is the later ones'.
        left = sum(VERBS[later].weight for later in names[number:])
        share = (seconds - (time.monotonic() - started)) * VERBS[name].weight / left
        results[name] = _verb(found, name, share)
        print(_line(name, results[name]), flush=True)
        for problem in results[name]["problems"]:
            print(f"    {problem}", flush=True)
        save(results, out)
    if "train tokenizer" in names:
        results["moved while training"] = {"problems": [wrong] if (wrong := found.moved()) else []}
        print(f"{'a run moved while it trains':<18} {wrong or 'stops, and goes on when it is moved back'}", flush=True)
    save(results, out)
    return results


def save(results: dict[str, dict], out: Path | None) -> None:
    """Write what was found so far."""
    if out is not None:
        out.write_text(json.dumps(results, indent=2) + "\n")


def _verb(found: Torture, name: str, share: float) -> dict:
    started = time.monotonic()
    found.whole(name)
    pairs, problems = 0, []
    while pairs < PAIRS and (pairs == 0 or time.monotonic() - started < share / 5):
        pairs += 1
        if wrong := found.two(name):
            problems.append(f"two at once: {wrong}")
    operations = {
        fault: {kind: found.operations[name][kind] for kind in kinds if kind in found.operations[name]}
        for fault, kinds in FAILING.items()
    }
    struck = {fault: dict.fromkeys(kinds, 0) for fault, kinds in operations.items()}
    for fault, kind, number in _in_turn(operations, found.random):
        if time.monotonic() - started > share:
            break
        if wrong := found.strike(name, (fault, kind, number)):
            problems.append(f"{fault} {wrong}")
        struck[fault][kind] += found.came
    return {"operations": operations, "struck": struck, "two_at_once": pairs, "problems": problems}


def _in_turn(operations: dict[str, dict[str, int]], random: random.Random) -> list[Fault]:
    """Return all faults, each kind of operation's in random order, one of every kind in turn."""
    by_fault = [[(fault, kind, count) for kind, count in counts.items()] for fault, counts in operations.items()]
    points = [
        random.sample([(fault, kind, number) for number in range(1, count + 1)], count)
        for fault, kind, count in _woven(by_fault)
    ]
    return _woven(points)


def _woven(lists: list[list]) -> list:
    return [item for turn in zip_longest(*lists) for item in turn if item is not None]


def _line(name: str, result: dict) -> str:
    counts = [
        f"{fault} at {sum(result['struck'][fault].values())} of {sum(counts.values())}"
        for fault, counts in result["operations"].items()
    ]
    return f"{name:<16} {', '.join(counts)}; {result['two_at_once']} pairs at once; {len(result['problems'])} problems"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300, help="about how long, shared by the verbs")
    parser.add_argument("--verb", action="append", choices=list(VERBS), help="only these; may be repeated")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        scores = torture(Path(place), options.verb or list(VERBS), options.seconds, options.seed, options.out)
    wrong = sum(len(result["problems"]) for result in scores.values())
    print(f"{wrong} problems")
    return int(wrong > 0)


def count_once() -> None:
    """Read the images and count the FLOPs here, in the process that all children are forked from."""
    make_small()
    train, study = (list(VERBS[name].settings) for name in ("train tokenizer", "study"))
    for recipe, settings in (("debug_vq", train), ("debug_vq", []), ("debug_crt", [])):
        train_tokenizer.plan(recipe_config(recipe, "tokenizer", settings, str(DATA)), IMAGES)
    expand(study_config("debug_study", study, str(DATA), []))


if __name__ == "torture_verbs":
    count_once()
elif __name__ == "__main__":
    import torture_verbs

    raise SystemExit(torture_verbs.main())
