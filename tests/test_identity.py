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


def test_packed_images_are_named_by_their_contents_and_labels(tmp_path, monkeypatch):
    """Other images of the same sizes had the digest of the first, and so had splits that a new shard changed."""
    from test_packed import config, png, write_shard
    from vistok.data.open import open_split

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def digests(folder, **changes):
        sources = {split: open_split(config(tmp_path / folder, **changes), split) for split in ("train", "val")}
        return {split: source.digest for split, source in sources.items()}

    assert len({len(png(number)) for number in range(60)}) == 1
    write_shard(tmp_path / "a" / "train-0.tar", range(40))
    write_shard(tmp_path / "b" / "train-0.tar", [*range(20), *range(40, 60)], label=lambda n: n % 40 % 3)
    first = digests("a")
    assert all(first[split] != digests("b")[split] for split in first)
    write_shard(tmp_path / "copy" / "train-7.tar", range(40))
    assert digests("copy") == first
    write_shard(tmp_path / "c" / "train-0.tar", range(40), label=lambda n: (n + 1) % 3)
    assert all(first[split] != digests("c")[split] for split in first)
    assert digests("a", max_images=2)["train"] != digests("b", max_images=2)["train"]
    # A test shard: what was held out for the test is now in train, and other images are validated on.
    write_shard(tmp_path / "a" / "test-0.tar", range(60, 64))
    assert all(first[split] != digests("a")[split] for split in first)
