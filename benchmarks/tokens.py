"""What tokens_study cannot ask on Fashion-MNIST: two stages beside one (T2), and DiGIT's clusters with a renderer (S1 to S3).

python benchmarks/tokens.py run [--seeds 0 1 2] [--what stages clusters rendered] [--runs RUNS] [--minutes M]
python benchmarks/tokens.py report

`run` trains and scores; a stopped command goes on where it was, and after M minutes it begins nothing new. `report` writes
claims.json and table.md by the rules in results/clusters/README.md. One thread.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from vistok.config import override
from vistok.engine.log import Progress
from vistok.engine.provenance import provenance
from vistok.files import write_atomic, write_json
from vistok.recipes import find_recipe
from vistok.runs.initial import with_network_of
from vistok.runs.proxy import with_proxy_of
from vistok.runs.run_images import data_of
from vistok.runs.sources import with_codes_of
from vistok.scoring.evaluate_generator import Against, Drawing, evaluate_generator, load_stage2
from vistok.scoring.evaluate_tokenizer import evaluate_tokenizer
from vistok.scoring.evaluators import choose_evaluator
from vistok.scoring.probe import evaluate_probe
from vistok.scoring.stability import LEVELS, evaluate_stability
from vistok.verbs import train_generator, train_tokenizer
from vistok.verbs.cache_latents import cache_tokens

OUT = Path("results/clusters")
SAMPLES = 2_000
# Training FLOPs: of a tokenizer (1,300 steps of fashion_vq), of a line in one stage or in two, of a generator.
TOKENIZER, LINE, GENERATOR = 7.26e12, 1.353e13, 6e12
# S2 once more: a renderer that is trained as long as its recipe says, and a total of four times as much.
LONG, LONG_RENDERER = 4 * GENERATOR, 3 * GENERATOR
NETWORK = ("generator.width=96", "generator.depth=3", "generator.num_heads=3")
# Trained almost without classes, and drawn without them: DiGIT's figures are unconditional.
NO_CLASSES = ("generator.label_dropout=0.99",)


def flops(amount: float) -> str:
    """Return a length for --set."""
    return f'length="{amount:g} flops"'


@dataclass
class Work:
    """One seed's runs and scores."""

    seed: int
    runs: Path
    progress: Progress

    def tokenizer(
        self, name: str, recipe: str, *settings: str, prepared: Callable[[Any], Any] = lambda run: run
    ) -> Path:
        """Return a tokenizer's run, trained if it is not there."""
        config = override(prepared(find_recipe(recipe)), [*self._shared, *settings]).replace(name=name)
        return train_tokenizer.prepare(config, self.runs).train(self.progress).path

    def generator(self, name: str, tokenizer: Path, budget: float, *settings: str, recipe: str = "fashion_ar") -> Path:
        """Return a generator's run on a tokenizer's tokens, trained if it is not there."""
        config = override(find_recipe(recipe), [*self._shared, *NETWORK, flops(budget), *settings]).replace(name=name)
        caches = [cache_tokens(tokenizer, split, self.progress) for split in ("train", "val")]
        return train_generator.prepare(config, *caches, tokenizer, self.runs).train(self.progress).path

    def renderer(self, name: str, found_clusters: Path, budget: float) -> Path:
        """Return the run of a renderer that draws the grid's codes from a run's clusters, trained if it is not there."""
        taken = f"tokenizer.clusters_from={json.dumps(str(found_clusters))}"
        drawn = str(self.grid)
        return self.tokenizer(
            name, "fashion_renderer_masked", taken, flops(budget), prepared=lambda run: with_codes_of(run, drawn)
        )

    @property
    def _shared(self) -> list[str]:
        return [f"seed={self.seed}", "execution.threads=1", "execution.tensorboard=false"]

    @cached_property
    def grid(self) -> Path:
        """The grid's tokenizer: a proxy, and what renderers draw."""
        return self.tokenizer("grid", "fashion_vq", flops(TOKENIZER))

    def reconstruction(self, run: Path) -> dict[str, float]:
        """Return a tokenizer's scores on the test images."""
        from vistok.runs.load import load_tokenizer

        extractor = choose_evaluator(data_of(load_tokenizer(run)), None, None)
        found = evaluate_tokenizer(run, extractor, self.progress)
        return {name: found[name]["value"] for name in ("psnr", "rfmd", "codebook_usage")}

    def stability(self, run: Path) -> dict[str, float]:
        """Return the share of tokens that noise changes, by level."""
        scores = evaluate_stability(run, self.progress)["scores"]
        return {f"changed_{level}": scores[f"changed_{level}"]["value"] for level in LEVELS}

    def generation(self, run: Path, scale: float, decoder: Path | None = None) -> dict[str, float]:
        """Return gFMD and the cost of an image; `decoder`: another tokenizer for the same tokens."""
        stage2 = load_stage2(run, tokenizer=decoder)
        drawing = Drawing(stage2.sampling(guidance_scale=scale, seed=1000 + self.seed), SAMPLES)
        extractor = choose_evaluator(stage2.data, None, None, stage2.generator.info.class_names)
        found = evaluate_generator(stage2, Against((extractor,)), drawing, self.progress)
        spent = stage2.generator.info.training.train_flops
        scores = {name: found["gfmd"][name] for name in ("value", "corrected", "low", "high")}
        return {**{f"gfmd_{name}": value for name, value in scores.items()}, "train_flops": spent}

    def probe(self, run: Path, tokenizer: Path) -> dict[str, float]:
        """Return the accuracy of a linear probe of inner layers."""
        found = evaluate_probe(run, cache_tokens(tokenizer, "val", self.progress), self.progress)
        return {"probe_accuracy": found["score"]["value"], "probe_layer": found["layer"]}


def stages(work: Work) -> dict[str, dict[str, float]]:
    """Return T2's rows: a line in one stage and in two, of equal FLOPs, and a generator on each."""
    one = work.tokenizer("line-one-stage", "fashion_line", flops(LINE))
    first = work.tokenizer("line-first", "fashion_proxy_line", prepared=lambda run: with_proxy_of(run, str(work.grid)))
    second = work.tokenizer(
        "line-two-stages",
        "fashion_proxy_line_decoder",
        prepared=lambda run: with_network_of(run, str(first)),
    )
    found = {}
    for name, run in (("one stage", one), ("two stages", second)):
        on = work.generator(f"on-{name.replace(' ', '-')}", run, GENERATOR / 2)
        found[name] = {**work.reconstruction(run), **work.generation(on, 1.5)}
    return found


def clusters(work: Work) -> dict[str, dict[str, float]]:
    """Return S1 to S3's rows: the grid's codes without and with the causal regularizer, and clusters, rendered."""
    causal = work.tokenizer("grid-causal", "fashion_crt", flops(TOKENIZER))
    found_clusters = work.tokenizer("clusters", "fashion_clusters", flops(TOKENIZER))
    renderer = work.renderer("renderer", found_clusters, GENERATOR / 2)
    on_grid = work.generator("on-grid", work.grid, GENERATOR, *NO_CLASSES)
    on_clusters = work.generator(
        "on-clusters", found_clusters, GENERATOR / 2, *NO_CLASSES, recipe="fashion_clusters_ar"
    )
    return {
        "codes": {
            **work.stability(work.grid), **work.reconstruction(work.grid), **work.generation(on_grid, 0.0), **work.probe(on_grid, work.grid)
        },
        "causal codes": {**work.stability(causal), **work.reconstruction(causal)},
        "clusters": {
            **work.stability(found_clusters), **work.reconstruction(found_clusters), **work.probe(on_clusters, found_clusters)
        },
        "rendered clusters": {**work.reconstruction(renderer), **work.generation(on_clusters, 0.0, renderer)},
        "decoded clusters": work.generation(on_clusters, 0.0),
    }  # fmt: skip


def rendered(work: Work) -> dict[str, dict[str, float]]:
    """Return S2's rows with four times the FLOPs; tokenizers are those of `clusters`."""
    found_clusters = work.tokenizer("clusters", "fashion_clusters", flops(TOKENIZER))
    renderer = work.renderer("renderer-long", found_clusters, LONG_RENDERER)
    on_grid = work.generator("on-grid-long", work.grid, LONG, *NO_CLASSES)
    on_clusters = work.generator(
        "on-clusters-long", found_clusters, LONG - LONG_RENDERER, *NO_CLASSES, recipe="fashion_clusters_ar"
    )
    return {
        "codes, long": work.generation(on_grid, 0.0),
        "rendered clusters, long": {**work.reconstruction(renderer), **work.generation(on_clusters, 0.0, renderer)},
        "decoded clusters, long": work.generation(on_clusters, 0.0),
    }


QUESTIONS: dict[str, Callable[[Work], dict[str, dict[str, float]]]] = {
    "stages": stages, "clusters": clusters, "rendered": rendered,
}  # fmt: skip


def main() -> None:
    """Run or report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=["run", "report"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--what", nargs="+", choices=list(QUESTIONS), default=list(QUESTIONS))
    parser.add_argument("--runs", type=Path, default=Path("runs/tokens"))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    given = parser.parse_args()
    if given.do == "report":
        from tokens_report import report

        report(given.out)
        return
    torch.set_num_threads(1)
    run_all(given)


def run_all(given: argparse.Namespace) -> None:
    """Add the rows of each question and seed that scores.jsonl lacks."""
    file, until = given.out / "scores.jsonl", time.monotonic() + 60 * given.minutes
    given.out.mkdir(parents=True, exist_ok=True)
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    done = {(row["question"], row["seed"]) for row in rows}
    for seed in given.seeds:
        for what in given.what:
            if (what, seed) in done or time.monotonic() > until:
                continue
            found = QUESTIONS[what](Work(seed, given.runs, Progress()))
            rows += [{"question": what, "seed": seed, "arm": arm, **scores} for arm, scores in found.items()]
            write_atomic(file, "".join(json.dumps(row) + "\n" for row in rows).encode())
            write_json(given.out / "provenance.json", provenance())


if __name__ == "__main__":
    main()
