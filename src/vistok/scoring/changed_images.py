"""A warning where scores rest on other pictures than those that a network was trained beside."""

from vistok.data.config import DataConfig
from vistok.data.images.open import open_split
from vistok.origin import Origin

# Which pictures are held out depends on all names, so that after a change some of those that are scored may have been learned.
SCORED = (
    "pictures that are scored as held out may have been learned. Score with the former folder (--data), or train again"
)


def changed_images_warnings(data: DataConfig, origin: Origin, so: str = SCORED) -> list[str]:
    """Return a warning if a folder's training pictures are no longer those of a network's training; none for other data sets.

    `so`: what follows from that.
    """
    if data.dataset != "folder" or not origin.data_digest:
        return []
    train = open_split(data, "train")
    if origin.data_digest in (train.digest, *train.former_digests):
        return []
    return [
        f"the pictures in {data.root} are not those of the training (files were added, removed, renamed or changed, or the folder is another "
        f"one): {so}"
    ]
