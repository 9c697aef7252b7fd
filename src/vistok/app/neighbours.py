"""The training image that is nearest to each sample, in pixels, as scoring's memorisation measures it."""

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from vistok.app.drawing import Drawn
from vistok.app.networks import Networks
from vistok.app.parts import joined, quiet
from vistok.errors import UserError
from vistok.files import data_uri


@dataclass(frozen=True)
class Neighbours:
    """For each sample the nearest training image, uint8, and its distance: root mean square over pixels, on 0...1."""

    images: Any
    distances: list[float]
    searched: int


def nearest_training_images(drawn: Drawn, networks: Networks) -> Neighbours:
    """Return each sample's nearest training image; nothing is downloaded.

    Raises UserError, which says why, if the training images are not on this machine.
    """
    import torch

    from vistok.data.images.open import images_to_fetch, open_split
    from vistok.data.images.transforms import resize_uint8, to_uint8
    from vistok.data.loader import eval_images
    from vistok.metrics.memorization import nearest_neighbours
    from vistok.rng import stable_choice
    from vistok.runs.run_images import data_of
    from vistok.scoring.evaluate_generator import MEMORIZATION_TRAIN

    data = data_of(networks.decoder(drawn.path))
    if images_to_fetch(data, "train") is not None:
        raise UserError(
            f"no nearest training images: {data.dataset} is not in {data.root}. vistok start and vistok train fetch it there, or "
            "start the app where it lies"
        )
    try:
        train = open_split(data, "train")
    except UserError as error:
        raise UserError(f"no nearest training images, because these cannot be opened: {error}") from None
    searched = stable_choice(0, "memorization train", len(train), MEMORIZATION_TRAIN)
    images = (to_uint8(batch["images"]) for batch in eval_images(train.subset(searched, "searched"), data, 1000))
    distances, where, count = nearest_neighbours(resize_uint8(drawn.images, data.sides), images)
    found = train.subset(searched[where.numpy()], "nearest")
    nearest = torch.cat([to_uint8(batch["images"]) for batch in eval_images(found, data, 100)])
    return Neighbours(nearest, distances.tolist(), count)


def beside(drawn: Drawn, neighbours: Neighbours) -> Markup:
    """Return samples and their nearest training images in pairs, the closest pair first."""
    from vistok.runs.pictures import png_bytes, sheet

    cells = []
    for number in sorted(range(len(drawn.labels)), key=neighbours.distances.__getitem__):
        pair = [sheet(images[number : number + 1], 1) for images in (drawn.images, neighbours.images)]
        shown = [
            Markup('<img class="pixels" src="{}" alt="{}">').format(data_uri(png_bytes(picture)), what)
            for picture, what in zip(pair, ("sample", "nearest training image"), strict=True)
        ]
        caption = f"distance {neighbours.distances[number]:.3f}"
        cells.append(Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(joined(shown), caption))
    words = (
        f"Samples above, below each the nearest of {neighbours.searched:,} training images; the distance is the root mean square "
        "over pixels (0 the same, 1 black against white). The closest come first."
    )
    return joined([quiet(words), Markup('<div class="pictures">{}</div>').format(joined(cells))])
