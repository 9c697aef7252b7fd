"""What a name, digest or cache key must cover: one case for each kind."""


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
