"""A decode step compiled whole by torch.compile against the packed weights that `vistok sample` uses."""

import time

import torch
from common import alternate, arguments, entry, median, save
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.generator.autoregressive import AutoregressiveGenerator
from vistok.generator.config import paper_size
from vistok.generator.decoder import Decoder


class MaskedStep(nn.Module):
    """One new token for every row over a cache of fixed size: shapes never change, so one graph serves all positions."""

    def __init__(self, model: AutoregressiveGenerator) -> None:
        super().__init__()
        self.model, self.heads = model, (3, model.config.num_heads, model.config.width // model.config.num_heads)

    def _turn(self, x: Tensor, place: Tensor) -> Tensor:
        a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
        cos, sin = self.model.cos[place], self.model.sin[place]
        return torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)

    def forward(self, x: Tensor, keys: list[Tensor], values: list[Tensor], place: Tensor) -> Tensor:
        for layer, key_cache, value_cache in zip(self.model.blocks, keys, values, strict=True):
            attention, feed_forward = layer.attention, layer.feed_forward
            query, key, value = attention.qkv(layer.attention_norm(x)).unflatten(-1, self.heads).unbind(-3)
            key_cache[:, :, place] = self._turn(key, place)[:, :, None]
            value_cache[:, :, place] = value[:, :, None]
            seen = (torch.arange(key_cache.shape[2]) <= place)[None, None, None]
            query = self._turn(query, place)[:, :, None]
            y = F.scaled_dot_product_attention(query, key_cache, value_cache, attn_mask=seen)
            x = x + attention.out(y[:, :, 0].flatten(1))
            h = layer.feed_forward_norm(x)
            x = x + feed_forward.down(F.silu(feed_forward.gate(h)) * feed_forward.up(h))
        return self.model.head(self.model.norm(x))


@torch.no_grad()
def main() -> None:
    options = arguments(__doc__, batches={"nargs": "+", "type": int, "default": [1, 16]})
    torch.manual_seed(0)
    model = AutoregressiveGenerator(paper_size("111m").replace(qk_norm=False), (16, 16), 16_384, 1_000).eval()
    nn.init.normal_(model.head.weight, std=0.02)
    decoder, results, lines = Decoder(model), [], []
    for batch in options.batches:
        rows, place = 2 * batch, torch.tensor([128])
        shape = (rows, model.config.num_heads, 257, model.config.width // model.config.num_heads)
        keys, values = ([torch.zeros(shape) for _ in model.blocks] for _ in range(2))
        torch._dynamo.reset()  # else the second batch size makes the first dimension a symbol
        step = torch.compile(MaskedStep(model), dynamic=False, fullgraph=True)
        x, cache = torch.randn(rows, model.config.width), decoder.new_cache(rows)

        def packed(x: Tensor = x, cache=cache) -> Tensor:  # noqa: ANN001
            cache.length = 128
            return decoder.logits(x[:, None], cache)[:, 0]

        def compiled(x: Tensor = x, step=step, keys=keys, values=values, place=place) -> Tensor:  # noqa: ANN001
            return step(x, keys, values, place)

        started = time.perf_counter()
        difference = float((compiled() - packed()).abs().max())
        seconds = alternate(5 * options.repeats, ours=packed, peer=compiled)
        mine, theirs = (median(seconds[key]) * 1e3 for key in ("ours", "peer"))
        results.append(
            entry(f"decode step at position 128, 111M, batch {batch}, compiled as the peer", mine, theirs, "ms")
        )
        lines.append(f"Batch {batch}: compiled in {time.perf_counter() - started - sum(map(sum, seconds.values())):.0f} s; "
                     f"logits differ by at most {difference:.1e}.")  # fmt: skip
    save("compiled", results, "torch.compile of the whole decode step", "  \n".join(lines))


if __name__ == "__main__":
    main()
