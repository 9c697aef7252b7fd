"""Products with frozen weights: every kernel gives what the plain one gives."""

import copy
import subprocess
import sys

import pytest
import torch

from vistok.engine.config import OptimizerConfig
from vistok.engine.optim import adamw
from vistok.generator.autoregressive import frozen as frozen_module
from vistok.generator.autoregressive.config import AutoregressiveConfig, AutoregressiveSampling
from vistok.generator.autoregressive.generator import AutoregressiveGenerator
from vistok.nn import linear as linear_module
from vistok.nn.linear import Linear
from vistok.nn.linear_kernels import PackedLinear, PlainLinear, can_pack, frozen_linear, rounded, to_int8
from vistok.space import token_grid

SIZES = [(48, 32), (512, 96), (33, 20)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rows", [(1,), (2, 1), (3, 5), (40,)])
def test_packed_products_are_the_plain_ones(size, rows):
    torch.manual_seed(0)
    weight, x, other = torch.randn(size), torch.randn(*rows, size[1]), torch.randn(*rows, size[0])
    kernels = [frozen_linear(weight)]
    assert isinstance(kernels[0], PackedLinear) == can_pack(weight)
    if can_pack(weight):
        kernels += [PackedLinear(weight, few_rows) for few_rows in (0, 2)]
    for name, arguments in (("__call__", ()), ("silu", ()), ("times", (other,)), ("plus", (other,))):
        expected = getattr(PlainLinear(weight), name)(x, *arguments)
        for kernel in kernels:
            torch.testing.assert_close(getattr(kernel, name)(x, *arguments), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_eight_bits_are_near(size):
    torch.manual_seed(0)
    weight, x = torch.randn(size), torch.randn(4, size[1])
    values, scale = to_int8(weight)
    assert values.dtype == torch.int8 and int(values.abs().max()) == 127
    assert float(((values * scale[:, None] - weight).abs() / scale[:, None]).max()) < 0.5001
    found, expected = frozen_linear(weight, "int8")(x), x @ weight.T
    assert 0 < float((found - expected).norm() / expected.norm()) < 0.02
    assert not frozen_linear(torch.zeros(size), "int8")(x).any()


@pytest.mark.parametrize("size", SIZES)
def test_bfloat16_weights_have_eight_bits_of_mantissa(size):
    torch.manual_seed(0)
    weight, x = torch.randn(size), torch.randn(4, size[1])
    values = rounded(weight, "bfloat16")
    assert values.dtype == torch.float32 and torch.equal(values, weight.bfloat16().float())
    assert 0 < float(((values - weight) / weight).abs().max()) <= 2**-8
    torch.testing.assert_close(frozen_linear(weight, "bfloat16")(x), x @ values.T, rtol=1e-5, atol=1e-5)
    assert rounded(weight, "none") is weight


def test_without_onednn_the_same_tokens_are_drawn(monkeypatch):
    torch.manual_seed(0)
    model = AutoregressiveGenerator(
        AutoregressiveConfig(width=32, depth=2, num_heads=2, ffn_multiple=16), token_grid(4, 5, 40), 6
    )
    torch.nn.init.normal_(model.head.weight, std=0.5)
    labels, sampling = torch.arange(48) % 6, AutoregressiveSampling(guidance_scale=2.0)
    packed = model.sample(labels, sampling=sampling)
    monkeypatch.setattr(frozen_module, "frozen_linear", lambda weight, rounding: PlainLinear(weight))
    assert torch.equal(model.sample(labels, sampling=sampling), packed)
    monkeypatch.undo()
    rounded = model.sample(labels, sampling=sampling.replace(int8=True))
    assert 0 < float((rounded != packed).float().mean()) < 0.9


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(7, 32), (2, 5, 32), (2, 3, 4, 32)])
def test_large_products_and_their_gradients_are_the_plain_ones(monkeypatch, shape, bias):
    torch.manual_seed(0)
    layer, x = Linear(32, 48, bias), torch.randn(shape, requires_grad=True)
    monkeypatch.setattr(linear_module, "on_mkls_own_cpu", lambda: False)
    found = []
    for large in (0, 2**62):
        monkeypatch.setattr(linear_module, "LARGE", large)
        assert layer._large(x) == (large == 0)
        y = layer(x)
        along = torch.func.jvp(layer, (x,), (torch.ones_like(x),))[1]
        found.append([y, along, *torch.autograd.grad((y**2).sum(), (x, *layer.parameters()))])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_one_kernel_adamw_is_torchs_also_for_channels_last_weights():
    """The kernel runs over raw memory: weights and gradients must lie alike."""
    torch.manual_seed(0)
    fast = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 4, 3)).to(memory_format=torch.channels_last)
    plain = copy.deepcopy(fast)
    optimizers = (
        adamw([{"params": list(fast.parameters())}], OptimizerConfig(lr=1e-2)),
        torch.optim.AdamW(plain.parameters(), lr=1e-2, betas=OptimizerConfig().betas),
    )
    images = torch.randn(4, 3, 12, 12)
    for _ in range(5):
        for model, optimizer in zip((fast, plain), optimizers, strict=True):
            optimizer.zero_grad()
            (model(images) ** 2).mean().backward()
            optimizer.step()
    for a, b in zip(fast.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


ONE_GRAPH = """
import torch
from vistok.nn import linear
from vistok.nn.rope import axial_table
from vistok.nn.transformer import Block

linear.LARGE = 1
block, x, table = Block(32, 2), torch.randn(1, 4, 32), axial_table(2, 2, 16)
torch.testing.assert_close(torch.compile(block, backend="eager", fullgraph=True)(x, *table), block(x, *table))
"""


@pytest.mark.slow
def test_a_compiled_block_is_one_graph():
    """A break at each product made compiled blocks slower. In a process without the tests' checks of shapes."""
    done = subprocess.run([sys.executable, "-c", ONE_GRAPH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
