"""Trajectories: what small runs compute, step by step, by the command line alone.

`python tests/trajectories/make.py` runs them and prints what differs from trajectories.json; with `--write` it writes that
file. They hold the losses of every step, the names of runs, and digests of weights, tokens and samples, all on one
thread: a change that is to change no number is made between two runs of this.
"""

import argparse
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
FILE = HERE / "trajectories.json"
DATA = HERE.parent.parent / "data"
EVERY_STEP = [
    "execution.threads=1",
    "execution.log_every=1",
    "execution.tensorboard=false",
    "execution.evaluate_every=1000",
]
GAN = ["losses.adversarial.weight=0.5", "losses.adversarial.start=6 steps", "losses.adversarial.ramp=3 steps",
       "losses.adversarial.channels=8", "losses.adversarial.num_layers=2", "tokenizer.quantizer.restart_after=4"]  # fmt: skip
FEW_IMAGES = ["data.max_images=200"]
FSQ = 'tokenizer.quantizer={"kind": "fsq", "levels": [5, 5, 3]}'
SHORT = [*FEW_IMAGES, "length=8 steps"]
# Name of the trajectory: verb, recipe, settings, trajectory of the tokenizer.
RUNS: dict[str, tuple[str, str, list[str], str | None]] = {
    "debug_vq": ("tokenizer", "debug_vq", FEW_IMAGES, None),
    "debug_crt": ("tokenizer", "debug_crt", FEW_IMAGES, None),
    "debug_crt_gan": ("tokenizer", "debug_crt", [*FEW_IMAGES, *GAN], None),
    "debug_fsq": ("tokenizer", "debug_vq", [*FEW_IMAGES, FSQ], None),
    "debug_classifier": ("classifier", "debug_classifier", FEW_IMAGES, None),
    "fashion_crt": ("tokenizer", "fashion_crt", SHORT, None),
    "debug_ar": ("generator", "debug_ar", [], "debug_crt"),
    "fashion_ar": ("generator", "fashion_ar", ["length=8 steps"], "fashion_crt"),
}
# What the losses depend on: elsewhere other kernels round otherwise, and a code flips within a few steps.
SAME_STEPS, SAME_WITHIN = 3, 2e-3
# A generator learns from the tokens of a tokenizer for which that has happened.
SAME_WITHIN_OF_GENERATORS = 0.1


def machine() -> dict[str, str]:
    """Return what decides the last bits: CPU, torch, and the compiler of our own kernels."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cpu = names[0] if names else platform.processor()
    return {"cpu": cpu, "torch": version("torch"), "compiler": _compiler()}


def _compiler() -> str:
    try:
        command = [*shlex.split(os.environ.get("CXX", "c++")), "--version"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return said.splitlines()[0] if said else ""


Command = Callable[..., None]


def vistok(*arguments: str) -> None:
    """Run the command line on one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "vistok", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"vistok {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")


def losses(run: Path) -> list[dict[str, float]]:
    """Return what training logged of each step, but for time."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    left_out = ("kind", "seconds")
    return [{key: value for key, value in row.items() if key not in left_out} for row in rows if row["kind"] == "train"]


def digest(*arrays: np.ndarray) -> str:
    """Return a digest of arrays' values."""
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def make(folder: Path, names: list[str] | None = None, command: Command = vistok) -> dict[str, Any]:
    """Run everything, or some trajectories and what they need, below `folder`; return what they are.

    `command` runs the command line with these arguments.
    """
    found: dict[str, Any] = {}
    places: dict[str, Path] = {}
    wanted = set(names or RUNS)
    wanted |= {RUNS[name][3] or name for name in wanted}
    for name, (verb, recipe, settings, of) in RUNS.items():
        if name not in wanted:
            continue
        runs = folder / name
        more = ["--tokenizer", str(places[of]), "--data", str(DATA)] if of else ["--data", str(DATA)]
        sets = [part for setting in (*EVERY_STEP, *settings) for part in ("--set", setting)]
        command("train", verb, recipe, *more, "--runs", str(runs), *sets)
        (places[name],) = (path.parent for path in runs.glob("*/finished.json"))
        finished = json.loads((places[name] / "finished.json").read_text())
        found[name] = {
            "run": places[name].name,
            "digests": finished["digests"],
            "train_flops": finished["train_flops"],
            "losses": losses(places[name]),
        }
        if of:
            tokens = places[of] / "tokens"
            found[of]["tokens"] = {split: digest(np.load(tokens / split / "tokens.npy")) for split in ("train", "val")}
    if names is None:
        found["samples"] = {pair: _samples(pair, folder) for pair in ("fashion-crt", "fashion-baseline")}
    return found


def _samples(pair: str, folder: Path) -> str:
    out = folder / f"{pair}.npz"
    vistok("sample", "--from", pair, "--count", "20", "--format", "npz", "--out", str(out))
    with np.load(out) as images:
        return digest(images["arr_0"], images["arr_1"])


def differences(found: dict[str, Any], expected: dict[str, Any], same_machine: bool) -> list[str]:
    """Return a line for each value that differs; on another machine names must agree, and the first losses roughly."""
    lines = []
    for name, values in found.items():
        before = expected[name]
        if same_machine and values != before:
            keys = [key for key in values if values[key] != before.get(key)]
            lines.append(f"{name}: {', '.join(keys)} differ")
        if not same_machine and isinstance(values, dict) and "run" in values:
            lines += _roughly(name, values, before)
    return lines


def _roughly(name: str, values: dict[str, Any], before: dict[str, Any]) -> list[str]:
    lines = []
    # A generator's name covers the tokens, whose last bits are the machine's.
    if RUNS[name][3] is None and values["run"] != before["run"]:
        lines.append(f"{name}: run is {values['run']}, was {before['run']}")
    within = SAME_WITHIN if RUNS[name][3] is None else SAME_WITHIN_OF_GENERATORS
    for row, old in list(zip(values["losses"], before["losses"], strict=True))[:SAME_STEPS]:
        far = [key for key in old if abs(row[key] - old[key]) > within * max(1e-3, abs(old[key]))]
        lines += [f"{name}: step {old['step']}: {key} is {row[key]}, was {old[key]}" for key in far]
    return lines


def main() -> None:
    """Make, and compare or write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder for the runs, which are kept there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = make(options.keep or Path(scratch))
    if options.write:
        FILE.write_text(json.dumps({"machine": machine(), "trajectories": found}, indent=1) + "\n")
        return
    expected = json.loads(FILE.read_text())
    same = expected["machine"] == machine()
    lines = differences(found, expected["trajectories"], same)
    print("\n".join(lines) or f"equal ({'every bit' if same else 'another machine: names, and first losses roughly'})")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
