"""The views of an image that a cache can hold: the centre crop and its flip, ten crops, or random crops.

A generator that learns few images learns them by heart, unless it gets several views of each.
"""

import re
from collections.abc import Callable, Sequence

from torch import Tensor

from vistok.data.config import DataConfig
from vistok.errors import UserError

View = Callable[[Tensor], Tensor]
# Views of the centre crop at the tokenizer's size.
VIEWS: dict[str, View] = {"center": lambda images: images, "flip": lambda images: images.flip(-1)}
# Corners and centre of an image a tenth larger, and their flips (LlamaGen; CRT paper A.2), like torchvision's TenCrop.
CROPS = ("top-left", "top-right", "bottom-left", "bottom-right", "middle")
TEN_CROP = (*CROPS, *(f"{name}-flip" for name in CROPS))
LARGER = 1.1
# "40-crops" names the centre and 40 crops, each drawn as in the tokenizer's training.
MANY, CROP = re.compile(r"([1-9][0-9]{0,3})-crops"), re.compile(r"crop-([0-9]+)")


def expand_views(views: Sequence[str]) -> tuple[str, ...]:
    """Return views with `ten-crop` and `N-crops` spelled out.

    Raises UserError for unknown views, and for several kinds, as each needs images prepared in its own way.
    """
    names = tuple(dict.fromkeys(name for view in views for name in _spelled_out(view)))
    unknown = [name for name in names if name not in (*VIEWS, *TEN_CROP) and not CROP.fullmatch(name)]
    if unknown or not names:
        raise UserError(
            f"views {', '.join(unknown) or 'none'}: allowed are {', '.join(VIEWS)}, ten-crop, and as in 40-crops"
        )
    if len({_kind(name) for name in names} - {"center"}) > 1:
        raise UserError(
            "views: flip, ten-crop and random crops (as in 40-crops) cannot be mixed, as each needs images prepared in its "
            "own way; choose one of them"
        )
    if "center" in names and any(name in TEN_CROP for name in names):
        raise UserError("views: ten-crop has a middle of its own, from larger images; leave out center")
    return names


def views_in_words(views: Sequence[str]) -> str:
    """Return views as they are asked for: many crops by their number."""
    if views == TEN_CROP:
        return "ten-crop"
    crops = random_crops(views)
    return f"{len(crops) - 1}-crops" if crops else " and ".join(views)


def _spelled_out(view: str) -> tuple[str, ...]:
    if many := MANY.fullmatch(view):
        return ("center", *(f"crop-{number}" for number in range(1, int(many[1]) + 1)))
    return TEN_CROP if view == "ten-crop" else (view,)


def _kind(name: str) -> str:
    if name in VIEWS:
        return name
    return "ten-crop" if name in TEN_CROP else "random"


def random_crops(views: Sequence[str]) -> tuple[int, ...] | None:
    """Return the numbers of random crops, with 0 for the centre; None if the views are of another kind."""
    numbers = [CROP.fullmatch(name) for name in views]
    return tuple(int(found[1]) if found else 0 for found in numbers) if any(numbers) else None


def data_for(views: Sequence[str], data: DataConfig) -> DataConfig:
    """Return how to prepare the images that these views are taken from. Raises UserError where that is impossible."""
    if views[0] in TEN_CROP:
        return _larger(data)
    if random_crops(views) and data.crop_scale == 1.0 and not data.horizontal_flip:
        raise UserError(
            "random crops are drawn as in the tokenizer's training, which used the centre crop only (data.crop_scale is 1, "
            "data.horizontal_flip is false); use --view center --view flip"
        )
    return data


def _larger(data: DataConfig) -> DataConfig:
    try:
        width = data.image_width and int(data.image_width * LARGER)
        return data.replace(image_size=int(data.image_size * LARGER), image_width=width)
    except ValueError:
        raise UserError(
            f"ten-crop crops images a tenth larger, but {data.dataset} comes only at {data.image_size} pixels; "
            "use --view center --view flip"
        ) from None


def view(name: str, sides: tuple[int, int]) -> View:
    """Return the function that extracts a view, other than a random crop, from a batch of images."""
    if name in VIEWS:
        return VIEWS[name]
    crop = name.removesuffix("-flip")

    def take(images: Tensor) -> Tensor:
        # As in torchvision, the flipped crops are crops of the flipped image.
        images = images.flip(-1) if name.endswith("-flip") else images
        height, width = images.shape[-2:]
        top, left = height - sides[0], width - sides[1]
        if crop == "middle":
            top, left = round(top / 2), round(left / 2)
        elif "top" in crop:
            top = 0
        if "left" in crop:
            left = 0
        return images[..., top : top + sides[0], left : left + sides[1]]

    return take
