"""One decode step of the 111M generator at position 128: in C++, by torch with packed weights, compiled whole by torch.compile.

At the numbers of rows between which the sampler chooses; guidance has two for each image.
"""

import sys
import time
from collections.abc import Callable

import torch
from common import alternate, arguments, entry, median, save
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.generator.autoregressive.config import paper_size
from vistok.generator.autoregressive.frozen import FrozenTransformer
from vistok.generator.autoregressive.generator import AutoregressiveGenerator
from vistok.generator.autoregressive.kv_cache import KVCache
from vistok.generator.autoregressive.native import MOST
from vistok.nn.rope import turn_even_and_odd
from vistok.space import token_grid

PLACE = 128


class MaskedStep(nn.Module):
    """One new token for every row over a cache of fixed size: shapes never change, so one graph serves all positions."""

    def __init__(self, model: AutoregressiveGenerator) -> None:
        super().__init__()
        self.model, self.heads = model, (3, model.config.num_heads, model.config.width // model.config.num_heads)

    def forward(self, x: Tensor, keys: list[Tensor], values: list[Tensor], place: Tensor) -> Tensor:
        turns = self.model.cos[place], self.model.sin[place]
        for layer, key_cache, value_cache in zip(self.model.blocks, keys, values, strict=True):
            attention, feed_forward = layer.attention, layer.feed_forward
            query, key, value = attention.qkv(layer.attention_norm(x)).unflatten(-1, self.heads).unbind(-3)
            key_cache[:, :, place] = turn_even_and_odd(key, *turns)[:, :, None]
            value_cache[:, :, place] = value[:, :, None]
            seen = (torch.arange(key_cache.shape[2]) <= place)[None, None, None]
            query = turn_even_and_odd(query, *turns)[:, :, None]
            y = F.scaled_dot_product_attention(query, key_cache, value_cache, attn_mask=seen)
            x = x + attention.out(y[:, :, 0].flatten(1))
            h = layer.feed_forward_norm(x)
            x = x + feed_forward.down(F.silu(feed_forward.gate(h)) * feed_forward.up(h))
        return self.model.head(self.model.norm(x))


def whole(model: AutoregressiveGenerator, x: Tensor) -> Callable[[], Tensor]:
    """Return the step compiled by torch for this number of rows."""
    place = torch.tensor([PLACE])
    shape = (len(x), model.config.num_heads, model.num_tokens, model.config.width // model.config.num_heads)
    keys, values = ([torch.zeros(shape) for _ in model.blocks] for _ in range(2))
    torch._dynamo.reset()  # else the second number of rows makes the first dimension a symbol
    step = torch.compile(MaskedStep(model), dynamic=False, fullgraph=True)
    return lambda: step(x, keys, values, place)


@torch.no_grad()
def main() -> None:
    options = arguments(__doc__, rows={"nargs": "+", "type": int, "default": [1, 2, 4, 8, 16, 32]})
    if max(options.rows) > MOST:
        sys.exit(f"--rows: at most {MOST}, above it there is no step in C++")
    torch.manual_seed(0)
    model = AutoregressiveGenerator(paper_size("111m").replace(qk_norm=False), token_grid(16, 16, 16_384), 1_000).eval()
    nn.init.normal_(model.head.weight, std=0.02)
    compiled, plain = FrozenTransformer(model), FrozenTransformer(model)
    plain.native = None  # as where there is no compiler
    if compiled.native is None:
        sys.exit("no C++ compiler with OpenMP on this machine: there is nothing to compare")
    decoders = {"ours": compiled, "torch": plain, "int8": FrozenTransformer(model, "int8")}
    decoders["bfloat16"] = FrozenTransformer(model, "bfloat16")
    results, lines = [], []
    for rows in options.rows:
        x = torch.randn(rows, model.config.width)
        runs = {}
        for name, decoder in decoders.items():
            cache = decoder.new_cache(rows)
            cache.buffers.normal_(generator=torch.Generator().manual_seed(0))

            def step(decoder: FrozenTransformer = decoder, cache: KVCache = cache, x: Tensor = x) -> Tensor:
                cache.length = PLACE
                return decoder.logits(x[:, None], cache)[:, 0]

            runs[name] = step
        difference = float((runs["ours"]() - runs["torch"]()).abs().max())
        if difference > 1e-3:
            sys.exit(f"{rows} rows: logits differ from torch's by {difference}")
        if rows in (2, 32):
            started = time.perf_counter()
            runs["torch.compile"] = whole(model, x)
            runs["torch.compile"]()
            lines.append(f"torch.compile took {time.perf_counter() - started:.0f} s for {rows} rows.")
        times = {name: median(values) * 1e3 for name, values in alternate(10 * options.repeats, **runs).items()}
        what = "row" if rows == 1 else "rows"
        for name in sorted(times.keys() - {"ours", "int8", "bfloat16"}):
            results.append(entry(f"{rows} {what}, C++ against {name}", times["ours"], times[name], "ms"))
        for rounding in ("bfloat16", "int8"):
            name = f"{rows} {what}, C++ with {rounding} weights against torch"
            results.append(entry(name, times[rounding], times["torch"], "ms"))
        lines.append(f"{rows} {what}: logits differ from torch's by at most {difference:.1e}.")
    save("decode_step", results, "A decode step", "  \n".join(lines))


if __name__ == "__main__":
    main()
