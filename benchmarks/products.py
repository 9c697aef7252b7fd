"""Matrix products with frozen weights of the 111M generator: torch's plain one (MKL) and oneDNN's packed one.

At 1 to 32 rows, over more weights than a cache holds, and what two rows padded to four would give; and the two products of
training, where oneDNN packs a weight anew each time.
"""

import torch
from common import alternate, arguments, entry, median, save
from torch.nn import functional as F

from vistok.nn.linear_kernels import PackedLinear, frozen_linear

SHAPE = (2304, 768)  # outputs, inputs: queries, keys and values
COPIES = 32


def training(repeats: int) -> list[dict]:
    """Return oneDNN against torch's product at the 1,024 rows of a training step, forward and for the inputs' gradient."""
    weight = torch.randn(SHAPE)
    x, gradient = torch.randn(1024, SHAPE[1]), torch.randn(1024, SHAPE[0])
    results = []
    for name, rows, matrix in (("forward", x, weight), ("inputs' gradient", gradient, weight.T)):
        seconds = alternate(
            8 * repeats,
            onednn=lambda rows=rows, matrix=matrix: torch.ops.mkldnn._linear_pointwise(
                rows, matrix, None, "none", [], ""
            ),
            plain=lambda rows=rows, matrix=matrix: F.linear(rows, matrix),
        )
        rate = {key: 2e-9 * x.shape[0] * weight.numel() / median(values) for key, values in seconds.items()}
        what = f"1,024 rows in training, {name}, oneDNN against torch's"
        results.append(entry(what, rate["onednn"], rate["plain"], "GFLOP/s", higher=True))
    return results


@torch.no_grad()
def main() -> None:
    options = arguments(__doc__, rows={"nargs": "+", "type": int, "default": [1, 2, 3, 4, 8, 16, 32]})
    torch.manual_seed(0)
    weights = [torch.randn(SHAPE) for _ in range(COPIES)]
    kernels = {
        "ours": [frozen_linear(w) for w in weights],
        "plain": [lambda x, w=w: F.linear(x, w) for w in weights],
        "packed": [PackedLinear(w) for w in weights],
    }
    gigabytes = 4 * COPIES * weights[0].numel() / 1e9
    results, lines = [], []
    for rows in options.rows:
        x = torch.randn(rows, 1, SHAPE[1])
        runs = {name: (lambda them=them: [kernel(x) for kernel in them]) for name, them in kernels.items()}
        if rows == 2:
            padded = torch.cat([x, torch.zeros_like(x)])
            runs["packed, padded to 4"] = lambda padded=padded: [kernel(padded) for kernel in kernels["packed"]]
        seconds = alternate(4 * options.repeats, **runs)
        rate = {name: gigabytes / median(values) for name, values in seconds.items()}
        results.append(
            entry(f"{rows} rows, against torch's", rate["ours"], rate["plain"], "GB/s", higher=True, rates=rate)
        )
        lines.append(
            f"{rows} rows: " + ", ".join(f"{name} {value:.1f}" for name, value in rate.items()) + " GB/s of float32"
        )
    results += training(options.repeats)
    save("products", results, "Products with frozen weights", "  \n".join(lines))


if __name__ == "__main__":
    main()
