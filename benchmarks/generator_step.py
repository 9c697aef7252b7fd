"""A training step of the generator, 111M, batch 4, 256 tokens, float32, equal dropout: against LlamaGen's.

Both eager, both with the fused AdamW that LlamaGen's script asks for, neither with an average of its weights.
"""

import torch
from common import alternate, alternate_apart, arguments, entry, llamagen, matrix_rate, median, save

BATCH = 4


def make_step(whose: str, peer_path):  # noqa: ANN001, ANN201
    """Return our step or the peer's: forward, backward, clipping, AdamW."""
    llamagen(peer_path)
    from models import generators

    from vistok.engine.config import ExecutionConfig, OptimizerConfig
    from vistok.engine.device import setup_device
    from vistok.engine.optim import adamw, decay_groups

    ours, peer = generators("111m")
    config = OptimizerConfig()
    ours_optimizer = adamw(decay_groups(ours, 0.05), config)
    decayed = [p for p in peer.parameters() if p.dim() >= 2]
    rest = [p for p in peer.parameters() if p.dim() < 2]
    peer_optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}],
        lr=1e-4,
        betas=(0.9, 0.95),
        fused=True,
    )
    tokens, labels = torch.randint(16_384, (BATCH, 256)), torch.randint(1000, (BATCH,))
    ours.train(), peer.train()

    def our_step() -> None:
        ours.nats(tokens, labels).mean().backward()
        torch.nn.utils.clip_grad_norm_(list(ours.parameters()), 1.0)
        ours_optimizer.step()
        ours_optimizer.zero_grad(set_to_none=True)

    def peer_step() -> None:
        _, loss = peer(cond_idx=labels, idx=tokens[:, :-1], targets=tokens)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        peer_optimizer.step()
        peer_optimizer.zero_grad(set_to_none=True)

    if whose == "peer":
        return peer_step
    setup_device(ExecutionConfig())
    return our_step


def loader_share(step_seconds: float) -> float:
    """Return the share of a step that reading a batch of 4 x 256 tokens from a cache on disk takes."""
    import tempfile
    from pathlib import Path

    import numpy as np

    from vistok.data.latents.cache import LatentManifest
    from vistok.data.latents.writer import LatentCacheWriter
    from vistok.data.loader import train_latents

    with tempfile.TemporaryDirectory() as folder:
        manifest = LatentManifest(
            tokenizer_digest="t", grid=(16, 16), codebook_size=16_384, dataset="d", data_digest="x", split="train",
            num_images=20_000, class_names=tuple(map(str, range(1000))),
        )  # fmt: skip
        writer = LatentCacheWriter(Path(folder) / "train", manifest, 20_000)
        writer.prepare(np.arange(20_000) % 1000)
        writer.write(0, torch.randint(16_384, (20_000, 256)), 1.0)
        batches = train_latents(writer.finish(), 0, BATCH, range(0, 210))
        next(batches)
        seconds = alternate(200, read=lambda: next(batches))["read"]
    return median(seconds) / step_seconds


def main() -> None:
    options = arguments(__doc__)
    sides = {name: (make_step, (name, options.peer_path)) for name in ("ours", "peer")}
    seconds = alternate_apart(options.repeats, **sides)
    mine, theirs = median(seconds["ours"]), median(seconds["peer"])

    from vistok.generator.autoregressive.config import paper_size
    from vistok.generator.autoregressive.generator import AutoregressiveGenerator
    from vistok.nn.flops import count_flops
    from vistok.space import token_grid

    rate = matrix_rate()
    with torch.device("meta"):
        tokens, labels = torch.empty((BATCH, 256), dtype=torch.int64), torch.empty((BATCH,), dtype=torch.int64)
        model = AutoregressiveGenerator(paper_size("111m").replace(qk_norm=False), token_grid(16, 16, 16_384), 1_000)
        flops = count_flops(lambda: model.nats(tokens, labels).mean().backward())
    share = flops / rate / mine
    loading = loader_share(mine)
    results = [
        entry("training step, 111M, batch 4", mine, theirs, "s", 1.1, flops=flops, share_of_matrix_rate=share),
        entry("share of a step spent in the loader", loading, None, "of the step", 0.02),
    ]
    note = f"{share:.0%} of the matrix rate of this run ({rate / 1e9:.0f} GFLOP/s)."
    save("generator_step", results, "Generator training step", note)


if __name__ == "__main__":
    main()
