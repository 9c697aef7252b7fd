"""Matrix products with frozen weights of the 111M generator: torch's plain one (MKL), oneDNN's packed one, eight bits.

At 1 to 32 rows, over more weights than a cache holds, and what two rows padded to four would give.
"""

import torch
from common import alternate, arguments, entry, median, save
from torch.nn import functional as F

from vistok.nn.linear_kernels import Int8Linear, PackedLinear, frozen_linear

SHAPE = (2304, 768)  # outputs, inputs: queries, keys and values
COPIES = 32


@torch.no_grad()
def main() -> None:
    options = arguments(__doc__, rows={"nargs": "+", "type": int, "default": [1, 2, 3, 4, 8, 16, 32]})
    torch.manual_seed(0)
    weights = [torch.randn(SHAPE) for _ in range(COPIES)]
    kernels = {
        "ours": [frozen_linear(w) for w in weights],
        "plain": [lambda x, w=w: F.linear(x, w) for w in weights],
        "packed": [PackedLinear(w) for w in weights],
        "int8": [Int8Linear(w) for w in weights],
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
    save("products", results, "Products with frozen weights", "  \n".join(lines))


if __name__ == "__main__":
    main()
