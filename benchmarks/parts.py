"""Images at once on a CPU: what encoding and decoding in parts, which bounds their memory, costs against a whole batch."""

import torch
from common import alternate, arguments, entry, median, save

from vistok.engine.config import ExecutionConfig
from vistok.engine.device import setup_device
from vistok.tokenizer import given
from vistok.tokenizer.bottlenecks.config import VQConfig
from vistok.tokenizer.config import ConvNetConfig, ConvTokenizerConfig
from vistok.tokenizer.networks.conv import ConvTokenizer

SMALL = ConvNetConfig(channels=16, multipliers=(1, 1, 2), num_res_blocks=1, attention_resolutions=(), norm_groups=8)
# Image size -> the network and how many images are in a batch; `recipes/fashion.py`, and the f16 network.
SIZES = {28: (SMALL, 64, 1000), 64: (ConvNetConfig(channels=32), 256, 192), 256: (ConvNetConfig(), 256, 12)}


def main() -> None:
    options = arguments(__doc__)
    setup_device(ExecutionConfig())
    results = []
    for size, (network, latent, count) in SIZES.items():
        torch.manual_seed(0)
        config = ConvTokenizerConfig(
            image_size=size,
            in_channels=3,
            latent_channels=latent,
            encoder=network,
            decoder=network,
            quantizer=VQConfig(),
        )
        tokenizer = ConvTokenizer(config).eval().to(memory_format=torch.channels_last)
        images = torch.rand(count, 3, size, size) * 2 - 1
        tokens = tokenizer.encode(images)
        own, whole = given.CPU_PIXELS, count * size**2

        def at_once(pixels: int, run, argument):  # noqa: ANN001, ANN202
            def timed() -> None:
                given.CPU_PIXELS = pixels
                run(argument)

            return timed

        for verb, run, argument in (("encode", tokenizer.encode, images), ("decode", tokenizer.decode, tokens)):
            seconds = alternate(options.repeats, ours=at_once(own, run, argument), whole=at_once(whole, run, argument))
            mine, other = (count / median(seconds[name]) for name in ("ours", "whole"))
            what = f"{verb} {size}x{size}, {max(1, own // size**2)} images at once against {count}"
            results.append(entry(what, mine, other, "images/s", higher=True))
        given.CPU_PIXELS = own
    save("parts", results, "Images at once")


if __name__ == "__main__":
    main()
