"""Which images, and how they are prepared."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vistok.config import Config, execution, later

Split = Literal["train", "val", "test"]


class DataConfig(Config):
    """A data set and its preparation.

    `root` is where the files lie: the folder of one's own images for `folder`, else where downloads go.
    It does not enter the fingerprint (the images' digest does).
    """

    dataset: Literal["fashion_mnist", "cifar10", "openmoji", "folder", "imagenet", "webdataset", "parquet"] = (
        "fashion_mnist"
    )
    root: str = execution("data", "folder of images, or where downloads are kept")
    # The height, and the width too unless `image_width` gives another.
    image_size: int = Field(default=28, ge=4, le=2**14)
    image_width: Annotated[int, Field(ge=4, le=2**14)] | None = later(None)
    channels: Literal[1, 3] = 1
    # Training crops cover at least this share of the shorter side (1.0 = the centre crop, always).
    crop_scale: float = Field(default=1.0, gt=0.0, le=1.0)
    horizontal_flip: bool = False
    # Use only so many images of each split, evenly spread (None: all).
    max_images: int | None = Field(default=None, ge=1)
    # Which members of a shard are its images where a sample has several: "jpg" leaves out `0001.seg.png`.
    image_key: str | None = later(None)
    # What happens to files that cannot be read, and to those that need converting (CMYK, 16-bit, animated, ...).
    # Which images are used enters the fingerprint through their digest.
    unreadable_images: Literal["refuse", "skip"] = execution("refuse")
    unusual_images: Literal["convert", "skip", "refuse"] = execution("convert")

    @property
    def sides(self) -> tuple[int, int]:
        """Height and width of images, in pixels."""
        return self.image_size, self.image_width or self.image_size

    @model_validator(mode="after")
    def _native(self) -> "DataConfig":
        if self.dataset in ("fashion_mnist", "cifar10", "openmoji") and self.sides != (self.image_size,) * 2:
            raise ValueError(f"{self.dataset} has square images: leave image_width null, found {self.image_width}")
        native = {"fashion_mnist": (28, 1), "cifar10": (32, 3)}.get(self.dataset)
        if native and (self.image_size, self.channels) != native:
            raise ValueError(
                f"{self.dataset} has images of {native[0]} pixels and {native[1]} channels, "
                f"found image_size {self.image_size} and channels {self.channels}"
            )
        if self.dataset == "openmoji" and self.channels != 3:
            raise ValueError(f"openmoji has coloured pictures: channels must be 3, found {self.channels}")
        if self.image_key is not None and self.dataset != "webdataset":
            raise ValueError(f"image_key chooses among the members of webdataset shards, found dataset {self.dataset}")
        return self
