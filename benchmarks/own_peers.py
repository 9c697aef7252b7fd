"""Other projects' tokenizers on folders of one's own images, trained as they train them, for as long as ours.

python benchmarks/own_peers.py --folders FOLDERS --seconds 120 --peer-path LLAMAGEN [--sets NAME ...] [--seeds 0]

LlamaGen: its VQModel at an eighth of the side, 1,024 codes of 8 dimensions, squared error and its quantizer's loss, Adam at
1e-4 (its defaults; its perceptual and adversarial losses need a download and a start at 20,000 steps).
vector-quantize-pytorch: the autoencoder of its examples, one level deeper, so that a token is 8x8 pixels too; 1,024 codes,
AdamW at 3e-4, absolute error and ten times the commitment loss.
Ours: images64_crt, from nothing and from the shipped tokenizer. All: one thread, 16 pictures of 64 pixels a step, as many
steps as `--seconds` of CPU take, without schedules that know the end; held-out pictures; the same folders and crops.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from own_records import OUT, records_in
from torch import Tensor, nn
from torch.nn import functional as F

from vistok.config import override
from vistok.data.config import DataConfig
from vistok.data.images.open import open_split
from vistok.data.images.transforms import to_uint8
from vistok.data.loader import eval_images, train_images
from vistok.metrics.codebook import perplexity_share
from vistok.metrics.reconstruction import psnr_per_image
from vistok.recipes import find_recipe
from vistok.rng import seeded_init
from vistok.runs.config import TokenizerRun
from vistok.runs.initial import initial_weights, load_initial, with_network_of
from vistok.units import Scale
from vistok.verbs.train_tokenizer import build_objective

CODES, BATCH = 1024, 16
# Steps take images, and give their reconstructions' loss; the second function reconstructs and returns codes.
Peer = tuple[Callable[[Tensor, int], None], Callable[[Tensor], tuple[Tensor, Tensor]]]


def ours(init_from: str | None, seed: int) -> Peer:
    """images64_crt's phases, at a constant learning rate after its warm-up."""
    config: TokenizerRun = find_recipe("images64_crt", "tokenizer")
    if init_from:
        config = with_network_of(config, init_from)
    config = override(config, ['optimizer.schedule="constant"', f"seed={seed}"])
    networks = build_objective(config, torch.device("cpu"))
    if init_from:
        found = initial_weights(config)
        assert found is not None
        load_initial(networks.tokenizer, found)
    (phase,) = networks.phases(Scale(BATCH, 1, 64, (), 10**9))

    def step(images: Tensor, number: int) -> None:
        networks.tokenizer.train()
        phase.loss({"images": images}, number).total.backward()
        for parameters in phase.clip_groups.values():
            nn.utils.clip_grad_norm_(parameters, phase.clip_norm or 1e9)
        for group in phase.optimizer.param_groups:
            group["lr"] = config.optimizer.lr * phase.schedule(number)
        phase.optimizer.step()
        phase.optimizer.zero_grad(set_to_none=True)
        assert phase.after_step is not None
        phase.after_step(number)

    def reconstruct(images: Tensor) -> tuple[Tensor, Tensor]:
        output = networks.tokenizer.eval()(images)
        return output.reconstruction, output.bottleneck.stored

    return step, reconstruct


def llamagen(path: Path, seed: int) -> Peer:
    """LlamaGen's network and quantizer."""
    sys.path.insert(0, str(path))
    from tokenizer.tokenizer_image.vq_model import ModelArgs, VQModel

    with seeded_init(seed, "init", "llamagen"):
        model = VQModel(
            ModelArgs(
                encoder_ch_mult=[1, 2, 2, 4],
                decoder_ch_mult=[1, 2, 2, 4],
                codebook_size=CODES,
                codebook_embed_dim=8,
                codebook_show_usage=False,  # newer versions of torch don't let it write to its count of codes
            )
        )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.95))

    def step(images: Tensor, number: int) -> None:
        made, losses = model.train()(images)
        (F.mse_loss(made, images) + losses[0] + losses[1] + losses[2]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def reconstruct(images: Tensor) -> tuple[Tensor, Tensor]:
        quantized, _, info = model.eval().encode(images)
        return model.decode(quantized), info[2].view(len(images), -1)

    return step, reconstruct


class _Example(nn.Module):
    """vector-quantize-pytorch's example: convolutions and pooling, its quantizer, upsampling and convolutions."""

    def __init__(self) -> None:
        super().__init__()
        from vector_quantize_pytorch import VectorQuantize

        self.encoder = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.MaxPool2d(2), nn.GELU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.MaxPool2d(2), nn.GELU(),
            nn.Conv2d(32, 32, 3, padding=1), nn.MaxPool2d(2),
        )  # fmt: skip
        self.quantizer = VectorQuantize(dim=32, codebook_size=CODES, accept_image_fmap=True)
        self.decoder = nn.Sequential(
            nn.Upsample(scale_factor=2), nn.Conv2d(32, 32, 3, padding=1), nn.GELU(),
            nn.Upsample(scale_factor=2), nn.Conv2d(32, 16, 3, padding=1), nn.GELU(),
            nn.Upsample(scale_factor=2), nn.Conv2d(16, 3, 3, padding=1),
        )  # fmt: skip

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        quantized, indices, loss = self.quantizer(self.encoder(images))
        return self.decoder(quantized).clamp(-1, 1), indices, loss.sum()


def vq_pytorch(seed: int) -> Peer:
    """vector-quantize-pytorch's example and its training."""
    with seeded_init(seed, "init", "vq_pytorch"):
        model = _Example()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)

    def step(images: Tensor, number: int) -> None:
        made, _, commitment = model.train()(images)
        ((made - images).abs().mean() + 10 * commitment).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def reconstruct(images: Tensor) -> tuple[Tensor, Tensor]:
        made, indices, _ = model.eval()(images)
        return made, indices.flatten(1)

    return step, reconstruct


def train(peer: Peer, root: Path, seconds: float, seed: int) -> dict[str, Any]:
    """Train for seconds of CPU, loading included; return steps and the scores of held-out pictures."""
    data = DataConfig(dataset="folder", root=str(root), image_size=64, channels=3, crop_scale=0.8, horizontal_flip=True)
    step, reconstruct = peer
    source, number, started = open_split(data, "train"), 0, time.process_time()
    for batch in train_images(source, data, seed, BATCH, range(10**6), 0, (0, 1)):
        step(batch["images"], number)
        number += 1
        if time.process_time() - started >= seconds:
            break
    with torch.inference_mode():
        held_out = open_split(data, "val")
        images = torch.cat([batch["images"] for batch in eval_images(held_out, data, 100)][:5])
        parts = [reconstruct(part) for part in images.split(50)]
    real, fake = to_uint8(images), to_uint8(torch.cat([made for made, _ in parts]))
    counts = torch.bincount(torch.cat([codes.flatten() for _, codes in parts]), minlength=CODES)
    mean = real.float().mean(dim=0, keepdim=True).round().to(torch.uint8).expand_as(real)
    psnr = float(psnr_per_image(fake, real).mean())
    return {
        "steps": number,
        "psnr": psnr,
        "psnr_over_mean": psnr - float(psnr_per_image(mean, real).mean()),
        "codebook_usage": float((counts > 0).float().mean()),
        "code_perplexity": perplexity_share(counts.numpy()),
    }


def main() -> None:
    """Read the arguments; train what has no record yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folders", type=Path, required=True)
    parser.add_argument("--sets", nargs="*")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--peer-path", type=Path, required=True)
    parser.add_argument("--init-from", default="pictures64")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    file = args.out / "peers.jsonl"
    done = {(record["folder"], record["name"], record["seconds"], record["seed"]) for record in records_in(file)}
    for folder in args.sets or sorted(path.name for path in args.folders.iterdir() if path.is_dir()):
        for seed in args.seeds:
            peers: dict[str, Callable[[], Peer]] = {
                "vistok, fine-tuned": lambda seed=seed: ours(args.init_from, seed),
                "vistok": lambda seed=seed: ours(None, seed),
                "LlamaGen": lambda seed=seed: llamagen(args.peer_path, seed),
                "vector-quantize-pytorch": lambda seed=seed: vq_pytorch(seed),
            }  # type: ignore[misc]
            for name, build in peers.items():
                what = {"folder": folder, "name": name, "seconds": args.seconds, "seed": seed}
                if tuple(what.values()) in done:
                    continue
                record = {**what, **train(build(), args.folders / folder, args.seconds, seed)}
                with file.open("a") as lines:
                    lines.write(json.dumps(record) + "\n")
                print(record, flush=True)


if __name__ == "__main__":
    main()
