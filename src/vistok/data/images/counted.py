"""How many images a split has, of data sets that are not on this machine, too: for plans."""

from pathlib import Path

from vistok.data.config import DataConfig
from vistok.data.images import imagenet
from vistok.data.images.open import images_to_fetch, open_split

AS_IMAGENET = "as ImageNet has; name its folder with --data"


def count_away(data: DataConfig, split: str) -> tuple[int, str] | None:
    """Return how many images a split has that are not on this machine, and a note; None if they are here."""
    if (to_fetch := images_to_fetch(data, split)) is not None:
        return to_fetch, "which are not here yet and would be fetched"
    if data.dataset == "imagenet" and not Path(data.root).exists():
        count = imagenet.COUNTS[split]
        return min(count, data.max_images or count), f"{AS_IMAGENET} (it is not in {data.root})"
    return None


def count_images(data: DataConfig, split: str) -> tuple[int, str]:
    """Return how many images a split has, and a note if they are not on this machine ("" if they are)."""
    return count_away(data, split) or (len(open_split(data, split)), "")
