"""What an image costs for each pair of a study, for studies recorded before their runs measured it.

python benchmarks/study_costs.py results/fashion results/openmoji

Writes image_costs.csv into each folder, which `vistok study report` puts into the study's table. Networks are those of the records
with new weights, since a cost does not depend on what they have learned; guidance is the median of what the pair's runs chose.
FLOPs are counted. Milliseconds are CPU time of one thread, which neighbours lengthen least: the quickest of some rounds of 32
images at once, decoding included.
"""

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ["BENCH_THREADS"] = "1"
import pandas as pd
import torch
from image_cost import MANY, cost

from vistok.config import make
from vistok.engine.log import Progress
from vistok.engine.provenance import provenance
from vistok.files import write_atomic, write_json
from vistok.generator.families import build_generator
from vistok.recipes import find_recipe
from vistok.runs.config import TokenizerRun
from vistok.study.findings.advice_source import AdviceSource, advice_source
from vistok.study.findings.table import IMAGE_COSTS, PAIR, generators
from vistok.tokenizer.config import NETWORKS


def costs_of(source: AdviceSource, repeats: int, progress: Progress) -> pd.DataFrame:
    """Return tokenizer_choice, choice, image_size, ms_per_image and flops_per_image of every pair, in the quickest of some rounds.

    A round draws with each pair once: what a machine does for a while then slows none of them alone.
    """
    pairs = generators(source.table).groupby(["tokenizer_choice", "choice", "image_size"])
    drawn = {key: _networks(source, *key, rows) for key, rows in pairs}  # type: ignore[misc]
    found: dict[Any, Any] = {}
    with progress.task("drawing", repeats * len(drawn)) as bar, torch.inference_mode():
        for _ in range(repeats):
            for key, networks in drawn.items():
                one = cost(*networks, MANY, 1)
                if key not in found or one.milliseconds < found[key].milliseconds:
                    found[key] = one
                bar.advance(1)
    return pd.DataFrame(
        {
            **dict(zip(PAIR, key, strict=True)),
            "ms_per_image": round(one.milliseconds, 3),
            "flops_per_image": one.flops_per_image,
        }
        for key, one in found.items()
    )


def _networks(
    source: AdviceSource, tokenizer_choice: str, choice: str, size: int, rows: pd.DataFrame
) -> tuple[Any, ...]:
    """Return a pair's generator and tokenizer, with new weights, and the guidance that most of its runs chose."""
    tokenizers, configs = trained(source, tokenizer_choice), source.generator(choice)
    assert tokenizers is not None and configs is not None
    tokenizer = make(NETWORKS, tokenizers.tokenizer.at(int(size))).eval()
    generator = build_generator(configs.generator, tokenizer.space, 10).eval()
    return generator, tokenizer, {"guidance_scale": float(rows.guidance_scale.median())}


def trained(source: AdviceSource, choice: str) -> TokenizerRun | None:
    """Return what a tokenizer choice trains; of a choice at another image size, the one that it is made from."""
    study = source.study
    others = {c.name: c.of for grid in study.grids for c in grid.tokenizers if c.of} if study else {}
    return source.tokenizer(others.get(choice, choice))


def main() -> None:
    """Write image_costs.csv and its provenance into each folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--repeats", type=int, default=10)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for folder in given.folders:
        source = replace(advice_source(str(folder)), study=find_recipe(f"{folder.name}_study", "study"))
        about = {"threads": 1, "images": MANY, **provenance()}  # before this changes a file
        found = costs_of(source, given.repeats, Progress())
        write_atomic(folder / IMAGE_COSTS, found.to_csv(index=False).encode())
        write_json((folder / IMAGE_COSTS).with_suffix(".json"), about)
        print(json.dumps({"folder": str(folder), "pairs": len(found)}))


if __name__ == "__main__":
    main()
