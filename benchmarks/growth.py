"""How time and peak memory grow with tokens, codes, batch and model size; fitted exponents beside the expected ones."""

import json
import subprocess
import sys

import numpy as np
from common import arguments, entry, save

# name -> (points, expected exponent and why)
SERIES = {
    "training step against tokens": ([64, 144, 256, 576, 1024], "1, towards 2 where attention dominates"),
    "look-up against codes": ([2**k for k in range(10, 18)], "1"),
    "look-up against vectors": ([2**k for k in range(11, 17)], "1"),
    "sampling step against batch": ([1, 2, 4, 8, 16, 32], "0 while weights are read, towards 1"),
    "sampling step against parameters": ([0, 1, 2, 3], "1"),
}


def measure(series: str, point: int) -> tuple[float, float, float]:
    """Return (size, least seconds of nine runs, MiB beyond weights and inputs) of one point; run in a process of its own."""
    import torch
    from common import alternate, peak_mib
    from torch.nn import functional as F

    from vistok.engine.config import ExecutionConfig
    from vistok.engine.device import setup_device
    from vistok.generator.autoregressive.config import AutoregressiveConfig, paper_size
    from vistok.generator.autoregressive.frozen import FrozenTransformer
    from vistok.generator.autoregressive.generator import AutoregressiveGenerator
    from vistok.generator.autoregressive.sampling import Guided
    from vistok.space import token_grid
    from vistok.tokenizer.bottlenecks.vq import nearest_codes

    setup_device(ExecutionConfig())
    torch.manual_seed(0)
    size = float(point)
    if series == "training step against tokens":
        side = int(point**0.5)
        model = AutoregressiveGenerator(
            AutoregressiveConfig(width=256, depth=4, num_heads=4), token_grid(side, side, 1024), 10
        )
        tokens, labels = torch.randint(1024, (8, point)), torch.zeros(8, dtype=torch.int64)

        def run() -> None:
            model.nats(tokens, labels).mean().backward()

    elif series.startswith("look-up"):
        codes, vectors = (point, 8192) if series.endswith("codes") else (16_384, point)
        book, z = (F.normalize(torch.randn(n, 8), dim=-1) for n in (codes, vectors))

        def run() -> None:
            nearest_codes(z, book)

    else:
        config = (
            paper_size(("52m", "81m", "111m", "212m")[point]) if series.endswith("parameters") else paper_size("52m")
        )
        model = AutoregressiveGenerator(config, token_grid(16, 16, 16_384), 1000)
        read = [*model.blocks.parameters(), *model.head.parameters()]
        size = float(sum(p.numel() for p in read)) if series.endswith("parameters") else size
        batch = 1 if series.endswith("parameters") else point
        guided = Guided(FrozenTransformer(model), batch, 2.0)

        def run() -> None:
            guided.cache.length = 128
            guided.follow(torch.zeros(batch, 1, dtype=torch.int64))

    with torch.set_grad_enabled(series.startswith("training")):
        memory = peak_mib(run)
        seconds = min(alternate(9, run=run)["run"])
    return size, seconds, memory


def main() -> None:
    options = arguments(__doc__, one={"nargs": 2, "default": None})
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]))))
        return
    results, tables = [], []
    for series, (points, expected) in SERIES.items():
        found = []
        for point in points:
            command = [sys.executable, __file__, "--one", series, str(point)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found.append(json.loads(done.stdout.splitlines()[-1]))
        sizes, seconds, memory = np.array(found).T
        half = len(sizes) // 2
        exponent, late = (
            float(np.polyfit(np.log(s), np.log(t), 1)[0]) for s, t in ((sizes, seconds), (sizes[half:], seconds[half:]))
        )
        lines = [f"## {series}", "", f"Expected exponent: {expected}. Found {exponent:.2f}, over the upper half {late:.2f}.", "",
                 "| size | ms | MiB beyond weights and inputs |", "|---|---|---|"]  # fmt: skip
        lines += [f"| {s:,.0f} | {t * 1e3:.2f} | {m:.0f} |" for s, t, m in found]
        tables.append("\n".join(lines))
        results.append(entry(f"exponent of {series}", exponent, None, "", expected=expected, points=found,
                             upper_half=late, time_unit="s", memory_unit="MiB"))  # fmt: skip
    save("growth", results, "Growth", "\n\n".join(tables))


if __name__ == "__main__":
    main()
