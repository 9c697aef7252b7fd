"""Train the general generator: it knows the tokens of the general tokenizer, and learns a folder's pictures from there.

python benchmarks/free_generator.py FREE --out pictures64_generator.safetensors

FREE comes from `benchmarks/free_pictures.py`. Each of its collections is a class. Takes about an hour of one thread; a
stopped run goes on where it was. Whatever starts from these weights has classes of its own.
"""

import argparse
from importlib.resources import files
from pathlib import Path

import torch

from vistok.config import override
from vistok.engine.log import Progress
from vistok.engine.weights import load_weights, save_weights
from vistok.recipes import find_recipe
from vistok.verbs import train_generator
from vistok.verbs.cache_latents import cache_tokens

NAME = "pictures64"
VIEWS = {"train": ("center", "flip"), "val": ("center",)}
# No dropout: 8,000 batches of 32 are four passes over two views of each picture.
SETTINGS = ["generator.dropout=0", 'length="8000 steps"', "execution.evaluate_every=500"]


def main() -> None:
    """Cache the tokens, train, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("free", type=Path)
    parser.add_argument("--out", type=Path, default=Path(f"{NAME}_generator.safetensors"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    progress = Progress()
    tokenizer = Path(str(files("vistok") / "weights" / f"{NAME}_tokenizer.safetensors"))
    tokens, root = given.runs / f"{NAME}-tokens", str(given.free / "train")
    train, val = (
        cache_tokens(tokenizer, split, progress, tokens / split, root, views) for split, views in VIEWS.items()
    )
    config = override(find_recipe("images64_ar_small", "generator"), [*SETTINGS, f"execution.threads={given.threads}"])
    run = train_generator.prepare(config, train, val, tokenizer, given.runs).train(progress)
    state, header = load_weights(run.export())
    made = {"command": "python benchmarks/free_generator.py FREE", "pictures": "docs/free-pictures.md"}
    header |= {"made_by": made, "tokenizer": {**header["tokenizer"], "path": tokenizer.name}}
    save_weights(given.out, state, header)


if __name__ == "__main__":
    main()
