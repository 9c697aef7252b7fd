"""Products with frozen weights: every kernel gives what the plain one gives."""

import pytest
import torch

from vistok.generator import decoder as decoder_module
from vistok.generator.autoregressive import AutoregressiveGenerator
from vistok.generator.config import AutoregressiveConfig, SamplingConfig
from vistok.nn.linear_kernels import Int8Linear, PackedLinear, PlainLinear, can_pack, frozen_linear

SIZES = [(48, 32), (512, 96), (33, 20)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rows", [(1,), (2, 1), (3, 5), (40,)])
def test_packed_products_are_the_plain_ones(size, rows):
    torch.manual_seed(0)
    weight, x, other = torch.randn(size), torch.randn(*rows, size[1]), torch.randn(*rows, size[0])
    plain, fast = PlainLinear(weight), frozen_linear(weight)
    assert isinstance(fast, PackedLinear) == can_pack(weight)
    for name, arguments in (("__call__", ()), ("silu", ()), ("times", (other,)), ("plus", (other,))):
        expected, found = (getattr(kernel, name)(x, *arguments) for kernel in (plain, fast))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_eight_bits_are_near(size):
    torch.manual_seed(0)
    weight, x = torch.randn(size), torch.randn(4, size[1])
    found, expected = Int8Linear(weight)(x), x @ weight.T
    assert 0 < float((found - expected).norm() / expected.norm()) < 0.02
    assert torch.isfinite(Int8Linear(torch.zeros(size))(x)).all()


def test_a_packed_weight_is_a_snapshot():
    weight = torch.ones(4, 3)
    kernel = frozen_linear(weight)
    weight.zero_()
    assert kernel(torch.ones(1, 3)).tolist() == [[3.0] * 4]


def test_without_onednn_the_same_tokens_are_drawn(monkeypatch):
    torch.manual_seed(0)
    model = AutoregressiveGenerator(
        AutoregressiveConfig(width=32, depth=2, num_heads=2, ffn_multiple=16), (4, 5), 40, 6
    )
    torch.nn.init.normal_(model.head.weight, std=0.5)
    labels, sampling = torch.arange(48) % 6, SamplingConfig(guidance_scale=2.0)
    packed = model.sample(labels, sampling=sampling)
    monkeypatch.setattr(decoder_module, "frozen_linear", lambda weight, int8: PlainLinear(weight))
    assert torch.equal(model.sample(labels, sampling=sampling), packed)
    monkeypatch.undo()
    rounded = model.sample(labels, sampling=sampling.replace(int8=True))
    assert 0 < float((rounded != packed).float().mean()) < 0.9
