"""An image drawn again as another class: its noise is found by running a flow backwards, and drawn with another label.

    python examples/another_class.py --from Sneaker --to "Ankle boot" --out another-class.png

Takes held-out images of Fashion-MNIST and the flow generator that comes with vistok. The rows of the sheet: images, what the tokenizer and
the flow keep of them, and the same noise drawn as the other class (Meng et al. 2022, arXiv 2210.03142, section 3.4).
"""

import argparse
from pathlib import Path

import torch

from vistok import load_generator
from vistok.data.images.open import open_split
from vistok.data.images.transforms import to_uint8
from vistok.data.loader import eval_images
from vistok.generator.flow.config import FlowSampling
from vistok.generator.flow.generator import FlowGenerator
from vistok.runs.load import load_tokenizer_of
from vistok.runs.pictures import display_scale, save_png, sheet
from vistok.runs.run_images import data_of
from vistok.runs.shipped import shipped_network


def main() -> None:
    """Draw the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="own", default="Sneaker", help="class of the images")
    parser.add_argument("--to", default="Ankle boot", help="class to draw them as")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--data", default="data", help="folder for the download of Fashion-MNIST")
    parser.add_argument("--out", type=Path, default=Path("another-class.png"))
    given = parser.parse_args()
    generator = load_generator(str(shipped_network("fashion-flow", "generator")))
    assert isinstance(generator, FlowGenerator)
    tokenizer, names = load_tokenizer_of(generator), generator.info.class_names
    own, other = (torch.full((given.count,), names.index(name)) for name in (given.own, given.to))
    data = data_of(tokenizer, given.data)
    batch = next(eval_images(open_split(data, "test"), data, 2_000))
    images = batch["images"][batch["labels"] == own[0]][: given.count]
    # Without guidance: backwards, it would lead to noise that no image comes from.
    how = FlowSampling(steps=32, solver="heun")
    noise = generator.to_noise(tokenizer.encode(images), own, how)
    drawn = [tokenizer.decode(generator.from_noise(noise, labels, how)) for labels in (own, other)]
    rows = torch.cat([to_uint8(part) for part in (images, *drawn)])
    save_png(given.out, sheet(rows, given.count, display_scale(images.shape[-1])))
    print(given.out)


if __name__ == "__main__":
    main()
