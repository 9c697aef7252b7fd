"""What keeping freed memory gives on a CPU: training steps, encoding and decoding, against glibc's own way; and peak memory.

Every side is a process of its own.
"""

import os
import subprocess
import sys
from pathlib import Path

import torch
from common import alternate_apart, arguments, entry, median, save
from tokenizer_step import config, our_step

from vistok.engine.allocator import keep_freed_memory
from vistok.generator.autoregressive.config import paper_size
from vistok.generator.autoregressive.generator import AutoregressiveGenerator
from vistok.recipes import find_recipe
from vistok.space import token_grid
from vistok.tokenizer.networks.conv import ConvTokenizer

# job -> timed runs a round
JOBS = {
    "tokenizer step, 256x256, batch 1": 1,
    "tokenizer step, 28x28, fashion_crt": 8,
    "generator step, 111M, batch 4": 1,
    "encode, 256x256, 4 images": 1,
    "decode, 256x256, 4 images": 1,
}


def make(job: str, kept: bool):  # noqa: ANN201
    """Return what is timed, in a process that keeps freed memory or does not."""
    if kept:
        keep_freed_memory()
    torch.manual_seed(0)
    if job.startswith("tokenizer step"):
        return our_step(config(256) if "256" in job else find_recipe("fashion_crt", "tokenizer"))[0]
    if job.startswith("generator"):
        return generator_step()
    tokenizer = ConvTokenizer(config(256).tokenizer).eval().to(memory_format=torch.channels_last)
    images = torch.rand(4, 3, 256, 256) * 2 - 1
    tokens = tokenizer.encode(images)
    return lambda: tokenizer.encode(images) if job.startswith("encode") else tokenizer.decode(tokens)


def generator_step():  # noqa: ANN201
    """Return forward and backward of the 111M generator, batch 4."""
    model = AutoregressiveGenerator(paper_size("111m"), token_grid(16, 16, 16_384), 1_000)
    tokens, labels = torch.randint(16_384, (4, 256)), torch.randint(1000, (4,))

    def step() -> None:
        model.nats(tokens, labels).mean().backward()
        model.zero_grad(set_to_none=True)

    return step


def peak(kept: bool) -> float:
    """Return the MiB that a process holds at most which makes three steps at 256x256 (Linux)."""
    command = [sys.executable, __file__, "--peak", "kept" if kept else "freed"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    options = arguments(__doc__, peak={"choices": ["kept", "freed"], "default": None})
    if options.peak:
        step = make("tokenizer step, 256x256", options.peak == "kept")
        for _ in range(3):
            step()
        lines = Path("/proc/self/status").read_text().splitlines()
        print(next(float(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024)
        return
    results = []
    for job, times in JOBS.items():
        seconds = alternate_apart(times * options.repeats, ours=(make, (job, True)), peer=(make, (job, False)))
        results.append(entry(job, *(median(seconds[key]) for key in ("ours", "peer")), "s"))
    results.append(entry("peak memory, tokenizer step, 256x256", peak(True), peak(False), "MiB"))
    save(
        "allocator",
        results,
        "Freed memory kept, or given back",
        "The peer is the same code as glibc allocates by itself.",
    )


if __name__ == "__main__":
    main()
