"""What a name, digest or cache key must cover: one case for each kind."""

import pytest


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


@pytest.mark.parametrize("kind", ["wrapped", "subclass"])
def test_sampling_leaves_out_no_block_of_another_kind(kind):
    """A block that was not exactly a `Block` was left out, or run as what it is not, and the samples looked finished."""
    import ctypes

    import torch

    from vistok.generator.autoregressive import AutoregressiveGenerator
    from vistok.generator.config import AutoregressiveConfig
    from vistok.generator.decoder import Decoder
    from vistok.generator.native import NativeStep
    from vistok.nn.transformer import Block

    class Wrapped(torch.nn.Module):
        def __init__(self, block):
            super().__init__()
            self.block = block

        def forward(self, *inputs):
            return self.block(*inputs)

    class Doubled(Block):
        def forward(self, *inputs):
            return 2 * super().forward(*inputs)

    config = AutoregressiveConfig(width=16, depth=2, num_heads=2, ffn_multiple=16)
    model = AutoregressiveGenerator(config, (2, 2), 8, 2).eval()
    other = Wrapped(model.blocks[1]) if kind == "wrapped" else Doubled(16, 2, 16, True, 0.0)
    model.blocks[1] = other
    compiled = ctypes.CDLL(None)
    compiled.decode_step_float32 = None
    for take in (Decoder, lambda model: NativeStep(model, compiled, False)):
        with pytest.raises(TypeError, match=f"block 1 is a {type(other).__name__}"):
            take(model)


def test_reference_features_are_of_the_size_that_is_asked_for(tmp_path):
    """One folder at 16, then at 8 pixels: the second score was against features of 16."""
    import numpy as np
    from PIL import Image

    from vistok.data.config import DataConfig
    from vistok.data.open import open_split
    from vistok.metrics.features import FeatureExtractor
    from vistok.tasks.evaluators import reference_set

    class Sizes(FeatureExtractor):
        name, digest, distance_name, kernel_name, resize = "sizes", "", "FMD", "KMD", "none"

        def __call__(self, images):
            return images.float().flatten(2).mean(2) + images.shape[-1] + 1000 * images.shape[1]

    (tmp_path / "test").mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "test" / f"{number}.png")
    found = []
    for size, channels in ((16, 3), (8, 3), (8, 1)):
        data = DataConfig(dataset="folder", root=str(tmp_path), image_size=size, channels=channels)
        reference = reference_set(Sizes(), open_split(data, "test"), data, "test")
        assert reference is reference_set(Sizes(), open_split(data, "test"), data, "test")
        found.append((reference.digest, reference.features.shape[1], int(reference.features.mean() % 1000) // 100))
    assert len({digest for digest, *_ in found}) == 3 and [width for _, width, _ in found] == [3, 3, 1]


def test_a_cache_under_an_earlier_digest_of_its_images_is_taken_and_told(tmp_path):
    """A digest that lied is replaced; what was made under it is not made again."""
    import inspect
    from types import SimpleNamespace

    import numpy as np
    import torch

    from vistok.data.token_cache import TokenManifest
    from vistok.data.token_writer import TokenCacheWriter
    from vistok.errors import UserError
    from vistok.tasks.cache_tokens import _open

    facts = {"tokenizer_digest": "t", "grid": (2, 2), "codebook_size": 8, "dataset": "d", "split": "train",
             "num_images": 3, "class_names": ("a",)}  # fmt: skip
    writer = TokenCacheWriter(tmp_path / "c", TokenManifest(data_digest="old", **facts), 3)
    writer.prepare(np.zeros(3))
    writer.write(0, torch.zeros(3, 4, dtype=torch.int64), 0.1)
    writer.finish()
    said = []
    job = SimpleNamespace(
        writer=TokenCacheWriter(tmp_path / "c", TokenManifest(data_digest="new", **facts), 3),
        source=SimpleNamespace(former_digests=("old",)),
    )
    assert inspect.unwrap(_open)(job, SimpleNamespace(say=said.append)).manifest.data_digest == "old"
    assert len(said) == 1 and "earlier vistok" in said[0]
    job.source.former_digests = ("older",)
    with pytest.raises(UserError, match="its data_digest is 'old', this run needs 'new'"):
        inspect.unwrap(_open)(job, SimpleNamespace(say=said.append))
