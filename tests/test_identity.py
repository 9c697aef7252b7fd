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
