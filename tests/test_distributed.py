"""Two processes give what one gives."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from processes import train_tokenizers, use
from vistok import cli
from vistok.config import override
from vistok.engine.distributed import World
from vistok.engine.log import read_rows
from vistok.engine.weights import load_weights
from vistok.errors import UserError
from vistok.recipes import find_recipe
from vistok.runs.job import require_whole_parts

HERE = Path(__file__).parent
# A process that aborts says where each of its threads was.
LOOPBACK = {
    "OMP_NUM_THREADS": "1",
    "GLOO_SOCKET_IFNAME": "lo",
    "MASTER_ADDR": "127.0.0.1",
    "PYTHONFAULTHANDLER": "1",
}


def torchrun(*command, processes=2, launcher=()):
    """Run a Python program as several processes that talk over the loopback interface."""
    start = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes),
                "--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]  # fmt: skip
    return subprocess.run(
        [*start, *launcher, *map(str, command)],
        env={**os.environ, **LOOPBACK},
        capture_output=True,
        text=True,
        check=False,
    )


def said(done, size=6000):
    """Return what processes wrote, without the middle: the first to fail speaks first, torchrun last."""
    text = done.stderr
    return text if len(text) <= 2 * size else f"{text[:size]}\n...\n{text[-size:]}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory, fashion_root):
    """The same work by one process and by two: (one, two). Both use the tokenizer that one process trained."""
    one, two = (tmp_path_factory.mktemp("processes") / name for name in ("one", "two"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    train_tokenizers(fashion_root, one)
    trained = only(one, "gan/*")
    copies = [folder / "shared" for folder in (one, two)]
    for copy in copies:
        shutil.copytree(trained, copy)
    use(copies[0], one)
    torch.set_num_threads(threads)
    done = torchrun(HERE / "processes.py", fashion_root, two, copies[1])
    assert done.returncode == 0, said(done)
    return one, two


def only(folder, pattern):
    (found,) = folder.glob(pattern)
    return found


def losses(run):
    return [
        {name: value for name, value in row.items() if "/" in name}
        for row in read_rows(run / "metrics.jsonl")
        if row["kind"] == "train"
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "run", ["gan/debug-crt-*", "normalized/debug-crt-*", "vectors/debug-crt-*", "micro-16/*", "micro-8/*"]
)
def test_losses_of_two_processes_are_those_of_one(run, runs):
    """With the adversarial phase, with batch statistics, with one and with two micro-batches to a process."""
    one, two = (losses(only(folder, run)) for folder in runs)
    assert len(one) == len(two) == 20
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        for name in a.keys() - {"autoencoder/latent_variance"}:  # a statistic within micro-batches
            # Norms and nats are sums of many numbers.
            tolerance = 1e-3 if "grad_norm" in name or "nats" in name else 1e-5
            assert a[name] == pytest.approx(b[name], rel=tolerance, abs=tolerance), name


@pytest.mark.slow
@pytest.mark.parametrize("run", ["gan/debug-crt-*", "micro-16/*"])
def test_two_processes_sum_what_one_sums(run, runs):
    """The same halves of a batch: not a bit of the weights differs, restarted codes and dropped labels included."""
    one, two = (load_weights(only(folder, f"{run}/export/raw.safetensors"))[0] for folder in runs)
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.slow
def test_codes_were_restarted(runs):
    """Else the test above would say nothing of it."""
    state = load_weights(only(runs[1], "gan/*/export/raw.safetensors"))[0]
    assert 0 <= int(state["quantizer.steps_unused"].max()) < 3


@pytest.mark.slow
def test_caches_of_two_processes_are_those_of_one(runs):
    for split in ("train", "val"):
        one, two = (folder / "shared" / "tokens" / split for folder in runs)
        for name in ("tokens.npy", "labels.npy", "manifest.json"):
            assert (one / name).read_bytes() == (two / name).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["shared/evaluations/tokenizer-*.json", "micro-16/*/evaluations/generator-*.json"])
def test_samples_and_scores_of_two_processes_are_those_of_one(pattern, runs):
    """From the same models: features, moments and so every score are equal to the last digit."""
    found = [json.loads(only(folder, pattern).read_text()) for folder in runs]
    for scores in found:
        scores.pop("seconds")
        cost = scores.get("cost", {})  # times differ, and what they were measured on
        for name in ("milliseconds", "ms_per_image", "images", "hardware"):
            cost.pop(name, None)
    assert found[0] == found[1]


@pytest.mark.slow
def test_sampling_alone_and_together(runs, tmp_path):
    command = ["sample", str(only(runs[0], "micro-16/*")), "--count", "600", "--format", "npz", "--out"]
    together = torchrun("-m", "vistok", *command, tmp_path / "two.npz")
    assert together.returncode == 0 and together.stdout.count("600 images") == 1, said(together)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    CliRunner().invoke(cli.app, [*command, str(tmp_path / "one.npz")])
    torch.set_num_threads(threads)
    with np.load(tmp_path / "one.npz") as one, np.load(tmp_path / "two.npz") as two:
        assert (one["arr_0"] == two["arr_0"]).all() and (one["arr_1"] == two["arr_1"]).all()
        drawn = one["arr_0"]
    # Each picture under its own number, however many are drawn at once.
    command[command.index("600")], command[command.index("npz")] = "130", "png"
    together = torchrun("-m", "vistok", *command, tmp_path / "two", "--batch-size", "50")
    assert together.returncode == 0, said(together)
    files = sorted((tmp_path / "two").glob("*.png"))
    assert [int(file.name[:6]) for file in files] == list(range(130))
    for file, expected in zip(files, drawn, strict=False):
        np.testing.assert_array_equal(np.asarray(Image.open(file).convert("RGB")), expected)


ENDING = """
import atexit, os, sys
import torch.distributed as dist
import vistok.engine.distributed
from vistok import cli

class TornDown:
    def __del__(self, write=os.write):
        write(1, b"torn down")

kept = TornDown()
atexit.register(print, "at exit")
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
sys.argv = ["vistok", *sys.argv[1:]]
if sys.argv[1] == "broken":
    cli.app = lambda **options: 1 / 0
cli.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code", "says"),
    [("recipes", 0, "fashion_crt"), ("recipe", 2, "recipe"), ("broken", 1, "ZeroDivisionError")],
)
def test_a_process_of_several_ends_without_the_teardown_in_which_gloo_aborts(command, code, says):
    done = subprocess.run(
        [sys.executable, "-c", ENDING, command],
        env={**os.environ, **LOOPBACK},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, said(done)
    assert says in done.stdout + done.stderr
    assert "at exit" in done.stdout and "torn down" not in done.stdout


def test_shares():
    ranges = [World(rank, 3).share_of(range(8)) for rank in range(3)]
    assert [i for part in ranges for i in part] == list(range(8)) and {len(part) for part in ranges} == {2, 3}
    assert World(1, 4).part_of(32, "batch_size") == 8
    # A micro-batch is at most a process's part: a recipe for 8 processes runs on 64.
    config = override(find_recipe("debug_crt"), ["batch_size=128", "execution.micro_batch_size=16"])
    for size in (1, 8, 16, 64):
        require_whole_parts(config, World(0, size))
    with pytest.raises(
        UserError, match="must divide each process's part of the batch: 96 images among 2 processes are 48"
    ):
        require_whole_parts(override(config, ["batch_size=96", "execution.micro_batch_size=32"]), World(0, 2))
    with pytest.raises(UserError, match="batch_size 15 cannot be divided among 2 processes"):
        World(0, 2).part_of(15, "batch_size")
