"""Which images to use and how to prepare them."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vistok.config import Config, execution, later

Split = Literal["train", "val", "test"]
Framing = Literal["crop", "whole", "close"]


class DataConfig(Config):
    """A data set and its preparation.

    `root` is where the files are: your folder of images for `folder`, else where downloads go. It is not part of the
    fingerprint (the images' digest is).
    """

    dataset: Literal["fashion_mnist", "cifar10", "openmoji", "folder", "imagenet", "webdataset", "parquet"] = (
        "fashion_mnist"
    )
    root: str = execution("data", "folder of images, or where downloads are kept")
    # The height, and the width too unless `image_width` gives another.
    image_size: int = Field(default=28, ge=4, le=2**14)
    image_width: Annotated[int, Field(ge=4, le=2**14)] | None = later(None)
    channels: Literal[1, 3] = 1
    # Training crops cover at least this share of the shorter side (1.0 = always the centre crop).
    crop_scale: float = Field(default=1.0, gt=0.0, le=1.0)
    horizontal_flip: bool = False
    # Of pictures that show something on a plain ground. "whole": training crops never cut it off, and may reach beyond the
    # picture. "close": so too, after most of the ground around it is cut away. "crop": as of any other picture.
    framing: Framing = later("crop")
    # Use at most this many images of each split, evenly spaced (None: all).
    max_images: int | None = Field(default=None, ge=1)
    # Which members of a shard are images, if a sample has several: "jpg" leaves out `0001.seg.png`.
    image_key: str | None = later(None)
    # What to do with files that cannot be read, and with those that need converting (CMYK, 16-bit, animated, ...).
    # The choice of images affects the fingerprint through their digest.
    unreadable_images: Literal["refuse", "skip"] = execution("refuse")
    unusual_images: Literal["convert", "skip", "refuse"] = execution("convert")

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of images, in pixels."""
        return self.image_size, self.image_width or self.image_size

    @property
    def least_side(self) -> int:
        """The length below which the sides of a picture are not decoded: of one that is cut close, a small part is shown."""
        return 2**16 if self.framing == "close" else max(self.sides)

    @model_validator(mode="after")
    def _native(self) -> "DataConfig":
        if self.dataset in ("fashion_mnist", "cifar10", "openmoji") and self.sides != (self.image_size,) * 2:
            raise ValueError(f"{self.dataset} has square images: leave image_width null, found {self.image_width}")
        native = {"fashion_mnist": (28, 1), "cifar10": (32, 3)}.get(self.dataset)
        if native and (self.image_size, self.channels) != native:
            raise ValueError(
                f"{self.dataset} has images with image_size {native[0]} and channels {native[1]}, "
                f"found image_size {self.image_size} and channels {self.channels}"
            )
        if self.dataset == "openmoji" and self.channels != 3:
            raise ValueError(f"openmoji has colour images: channels must be 3, found {self.channels}")
        if self.image_key is not None and self.dataset != "webdataset":
            raise ValueError(f"image_key chooses among the members of webdataset shards, but dataset is {self.dataset}")
        return self
