"""What a name, digest or cache key must cover: one case for each kind."""

import pytest


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
