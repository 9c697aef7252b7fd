"""What a name, digest or cache key must cover: one case for each kind."""


def test_imagenet_is_named_by_its_contents(tmp_path):
    """Other images of the same names and sizes had the same digest, and so its runs and caches were taken for theirs."""
    import hashlib
    import os

    import numpy as np
    from PIL import Image

    from vistok.data.config import DataConfig
    from vistok.data.open import open_split

    config = DataConfig(dataset="imagenet", root=str(tmp_path), image_size=8, channels=3)
    for split in ("train", "val"):
        for number, wnid in enumerate(("n01440764", "n01443537")):
            (tmp_path / split / wnid).mkdir(parents=True)
            for i in range(10):
                pixels = np.random.default_rng([number, i]).integers(0, 256, (9, 9, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / wnid / f"{wnid}_{i}.JPEG", "BMP")
    limited = config.replace(max_images=6)
    before = [open_split(chosen, split) for chosen in (config, limited) for split in ("train", "val", "test")]
    for source in before:  # runs and caches of earlier versions are found by what these called the images
        sizes = (f"{name}\0{(tmp_path / name).stat().st_size}" for name in source.files)
        assert source.former_digests == (hashlib.sha256("\n".join(sizes).encode()).hexdigest(),)

    changed = tmp_path / before[3].files[2]
    data = bytearray(changed.read_bytes())
    data[-1] ^= 1
    changed.write_bytes(data)
    os.utime(changed, ns=(0, 1))
    after = [open_split(chosen, split) for chosen in (config, limited) for split in ("train", "val", "test")]
    same = [old.digest == new.digest for old, new in zip(before, after, strict=True)]
    assert same == [False, True, True] * 2
    assert [old.former_digests for old in before] == [new.former_digests for new in after]
