"""Images per second of `vistok cache` against a loop over LlamaGen's extraction: f16 network, 256x256, two views each."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from common import alternate_apart, arguments, entry, llamagen, median, save
from PIL import Image
from tokenizer_step import config

from vistok.engine.config import ExecutionConfig
from vistok.engine.device import setup_device
from vistok.engine.log import Progress
from vistok.tokenizer.config import LossConfig
from vistok.units import steps
from vistok.verbs.cache_latents import cache_tokens
from vistok.verbs.train_tokenizer import prepare


def photographs(folder: Path, count: int) -> None:
    """Write smooth noise as JPEG files of 320x288 pixels in two classes."""
    rng = np.random.default_rng(0)
    for i in range(count):
        small = Image.fromarray(rng.integers(0, 255, (9, 10, 3), dtype=np.uint8))
        path = folder / "ab"[i % 2] / f"{i:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        small.resize((320, 288), Image.Resampling.BICUBIC).save(path)


def make_ours(root: Path, trained: Path):  # noqa: ANN201
    """Return `vistok cache`, each time to another place."""
    setup_device(ExecutionConfig())
    numbers = iter(range(10**6))
    quiet = Progress(quiet=True)
    return lambda: cache_tokens(trained, "train", quiet, out=root / f"cache-{next(numbers)}", views=("center", "flip"))


def make_peers(root: Path, count: int, peer_path: Path):  # noqa: ANN201
    """Return LlamaGen's extraction of the first `count` images."""
    llamagen(peer_path)
    from dataset.augmentation import center_crop_arr
    from tokenizer.tokenizer_image.vq_model import VQ_models
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    peer = VQ_models["VQ-16"](codebook_size=16_384, codebook_embed_dim=8).eval()
    transform = transforms.Compose([
        transforms.Lambda(lambda image: center_crop_arr(image, 256)), transforms.ToTensor(),
        transforms.Normalize(mean=[0.5] * 3, std=[0.5] * 3, inplace=True),
    ])  # fmt: skip

    def extract() -> None:
        loader = torch.utils.data.DataLoader(ImageFolder(root / "images" / "train", transform), batch_size=1)
        for i, (x, _) in zip(range(count), loader, strict=False):
            with torch.no_grad():
                codes = peer.encode(torch.cat([x, torch.flip(x, dims=[-1])]))[2][2]
            np.save(root / f"{i}.npy", codes.reshape(1, 2, -1).numpy())

    return extract


def main() -> None:
    options = arguments(__doc__, images={"type": int, "default": 40})
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        photographs(root / "images" / "train", options.images)
        photographs(root / "images" / "test", 2)
        run = config(256)
        run = run.replace(
            data=run.data.replace(root=str(root / "images")), losses=LossConfig(perceptual=None), length=steps(1),
            execution=ExecutionConfig(evaluate_every=10**6, tensorboard=False),
        )  # fmt: skip
        quiet = Progress(quiet=True)
        trained = prepare(run, root / "runs").train(quiet).path
        count = cache_tokens(trained, "train", quiet, out=root / "first").num_images
        seconds = alternate_apart(
            options.repeats, ours=(make_ours, (root, trained)), peer=(make_peers, (root, count, options.peer_path))
        )
        mine, theirs = (count / median(seconds[key]) for key in ("ours", "peer"))
        results = [entry("caching, 256x256, two views", mine, theirs, "images/s", 1.0, higher=True, images=count)]
        save("caching", results, "Caching tokens", "Loading of weights and checks of `vistok cache` are included.")


if __name__ == "__main__":
    main()
