"""Class-conditional sampling with guidance, 256 tokens of 16,384 codes: images per second against LlamaGen's generate.

At batch 1 also against it compiled, as its script for many samples does by default.
"""

import copy
import time
from functools import partial

import torch
from common import alternate, arguments, earlier, entry, llamagen, matrix_rate, median, save

# LlamaGen's, for what is `guided` of ours.
SETTINGS = {"cfg_scale": 2.0, "temperature": 1.0, "top_k": 0, "top_p": 1.0}


# Times that the weights are read in a row, beside each sampling.
READINGS = 8


def reading(weights: list[torch.Tensor]) -> None:
    """Read the weights as fast as torch's sum does, several times."""
    for _ in range(READINGS):
        for weight in weights:
            weight.sum()


def note(results: list[dict]) -> str:
    """Return milliseconds a token and the share of the bandwidth bound, a line for each result that has them."""
    lines = [
        f"{r['name']}: {r['ms_per_token']:.1f} ms a token (peer {r['peer_ms_per_token']:.1f}), "
        f"{r['share_of_bandwidth_bound']:.0%} of what reading {r['bytes_per_token'] / 1e6:.0f} MB at "
        f"{r['bandwidth'] / 1e9:.0f} GB/s allows; {r['greedy_tokens_equal']:.1%} of greedy tokens equal the peer's."
        for r in results
        if "ms_per_token" in r
    ]
    making = [r["making_seconds"] for r in results if "making_seconds" in r]
    lines.append(f"Not timed: making the sampler once, up to {max(making, default=0):.1f} s.")
    return "  \n".join(lines)


def main() -> None:
    options = arguments(
        __doc__,
        sizes={"nargs": "+", "default": ["111m", "343m"]},
        batches={"nargs": "+", "type": int, "default": [1, 16]},
    )
    llamagen(options.peer_path)
    from autoregressive.models.generate import generate
    from models import generators

    from vistok.generator.autoregressive.config import AutoregressiveSampling

    results = []
    guided = AutoregressiveSampling(guidance_scale=2.0)
    for size in options.sizes:
        ours, peer = generators(size)
        ours.eval(), peer.eval()
        labels = torch.tensor([7])
        greedy = generate(peer, labels, 256, **SETTINGS, sample_logits=False)
        same = float((ours.sample(labels, sampling=guided.replace(temperature=0.0)) == greedy).float().mean())
        operations = matrix_rate()
        parts = (*ours.blocks.parameters(), *ours.norm.parameters(), *ours.head.parameters())
        weights = [part.detach() for part in parts]
        read = sum(weight.numel() for weight in weights) * 4
        for batch in options.batches:
            labels, ids = torch.arange(batch), torch.arange(batch)
            started = time.perf_counter()
            full = ours.sampler(guided)
            making = time.perf_counter() - started
            eight = ours.sampler(guided.replace(int8=True))
            sixteen = ours.sampler(guided.replace(precision="bfloat16-weights"))
            more = {}
            if batch == 1:  # where bytes are the limit
                whole = torch.compile(copy.deepcopy(peer), mode="reduce-overhead", fullgraph=True)
                more = {
                    "int8": lambda: eight(labels, ids),
                    "bfloat16": lambda: sixteen(labels, ids),
                    "compiled": lambda whole=whole: generate(whole, labels, 256, **SETTINGS, sample_logits=True),
                }
            with torch.no_grad():
                seconds = alternate(
                    options.repeats,
                    ours=lambda: full(labels, ids),
                    # Next to it, since a machine's rate changes with what its neighbours do.
                    reading=partial(reading, weights),
                    peer=lambda: generate(peer, labels, 256, **SETTINGS, sample_logits=True),
                    **more,
                )
            mine, theirs = (batch / median(seconds[key]) for key in ("ours", "peer"))
            per_token = median(seconds["ours"]) / 256
            pairs = zip(seconds["reading"], seconds["ours"], strict=True)
            share = median([once / READINGS / (whole / 256) for once, whole in pairs])
            rate = read * READINGS / median(seconds["reading"])
            computing = ours.sampling_flops(guided) * batch / 256 / operations
            extra = {"ms_per_token": per_token * 1e3, "peer_ms_per_token": median(seconds["peer"]) / 0.256,
                     "bytes_per_token": read, "bandwidth": rate, "share_of_bandwidth_bound": share,
                     "share_of_limit": max(share, computing / per_token),
                     "greedy_tokens_equal": same, "making_seconds": making}  # fmt: skip
            results.append(entry(f"{size}, batch {batch}", mine, theirs, "images/s", 2.0, higher=True, **extra))
            if more:
                eight_rate, half, compiled = (batch / median(seconds[key]) for key in ("int8", "bfloat16", "compiled"))
                what = f"{size}, batch {batch}"
                results.append(entry(f"{what}, int8 weights", eight_rate, theirs, "images/s", higher=True))
                results.append(entry(f"{what}, bfloat16 weights", half, theirs, "images/s", higher=True))
                results.append(entry(f"{what}, against it compiled", mine, compiled, "images/s", higher=True))
            everything = earlier("sampling", results) + results
            save("sampling", everything, "Sampling with guidance, 256 tokens, float32, equal weights", note(everything))


if __name__ == "__main__":
    main()
