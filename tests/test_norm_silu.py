"""Group norm and SiLU as one C++ kernel: as exact as torch's, whatever the layout, and torch's own where it does not fit."""

from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from test_native import needs_compiler
from vistok.nn import norm_silu
from vistok.nn.norm_silu import NormSiLU
from vistok.tokenizer.networks.convnet import ResBlock

LAYOUTS = [torch.contiguous_format, torch.channels_last]
# (shape, groups): those of the recipes; none that vectors divide; one group, groups of one channel; one pixel; several
# tasks to an image.
SIZES = [
    ((4, 16, 28, 28), 8),
    ((3, 32, 7, 7), 8),
    ((2, 21, 13, 5), 3),
    ((2, 36, 9, 9), 1),
    ((2, 6, 3, 3), 6),
    ((3, 5, 1, 1), 1),
    ((1, 1, 5, 7), 1),
    ((2, 12, 45, 50), 4),
]


def make(groups: int, channels: int) -> NormSiLU:
    torch.manual_seed(0)
    norm = NormSiLU(groups, channels, eps=1e-6)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def by_torch(norm: NormSiLU, x: Tensor) -> Tensor:
    return F.silu(F.group_norm(x, norm.num_groups, norm.weight, norm.bias, norm.eps))


def fused(norm: NormSiLU, x: Tensor) -> Tensor:
    assert norm_silu._fits(x, norm.num_groups, norm.weight, norm.bias)
    return norm(x)


def results(function, norm: NormSiLU, x: Tensor, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Return the output and the gradients for x, weight and bias."""
    norm, x = make(norm.num_groups, norm.num_channels).to(dtype), x.to(dtype).detach().requires_grad_()
    y = function(norm, x)
    gradient = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    return [y.detach(), *torch.autograd.grad(y, (x, norm.weight, norm.bias), gradient)]


def errors(found: list[Tensor], exact: list[Tensor]) -> list[float]:
    """Return the largest error of each, as a share of its largest value."""
    return [float((a - b).abs().max() / b.abs().max()) for a, b in zip(found, exact, strict=True)]


@needs_compiler
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("shape", "groups"), SIZES)
@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (1e-3, 0), (1e15, 0), (1, 30)])
def test_as_exact_as_torch(shape, groups, layout, scale, offset):
    norm = make(groups, shape[1])
    x = (torch.randn(shape) * scale + offset).contiguous(memory_format=layout)
    exact = results(by_torch, norm, x, torch.float64)
    ours, theirs = errors(results(fused, norm, x), exact), errors(results(by_torch, norm, x), exact)
    assert all(mine < 3 * other + 5e-7 for mine, other in zip(ours, theirs, strict=True)), (ours, theirs)
    assert norm(x).is_contiguous(memory_format=layout)


@needs_compiler
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("shape", "groups"), SIZES)
@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (1e-3, 0), (1, 30)])
def test_sixteen_bits_are_rounded_where_they_are_stored_alone(shape, groups, layout, scale, offset):
    """As autocast leaves them: images in bfloat16, parameters in float32."""
    norm = make(groups, shape[1])
    x = (torch.randn(shape) * scale + offset).bfloat16().contiguous(memory_format=layout)

    def found(function, norm, x):
        given = x.detach().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = function(norm, given)
        assert y.dtype == x.dtype
        gradient = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).bfloat16().to(y.dtype)
        return [
            part.detach().double() for part in (y, *torch.autograd.grad(y, (given, norm.weight, norm.bias), gradient))
        ]

    exact = found(by_torch, make(groups, shape[1]).double(), x.double())
    y, to_x, *to_parameters = errors(found(fused, norm, x), exact)
    assert y < 2**-8 and to_x < 2**-7  # one rounding, and two
    assert max(to_parameters) < 1e-5


@needs_compiler
@pytest.mark.parametrize("layout", LAYOUTS)
def test_means_far_from_zero_cost_no_digits(layout):
    """Torch's kernel for channels last is a hundredth off here."""
    norm, x = make(8, 16), (torch.randn(2, 16, 28, 28) + 300).contiguous(memory_format=layout)
    assert max(errors(results(fused, norm, x), results(by_torch, norm, x, torch.float64))) < 1e-4


@needs_compiler
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("value", [0.0, 0.1, -1e6])
def test_an_image_of_one_colour_has_no_variance(layout, value):
    norm = make(3, 12)
    y = fused(norm, torch.full((2, 12, 37, 41), value).contiguous(memory_format=layout))
    torch.testing.assert_close(y, F.silu(norm.bias)[:, None, None].expand_as(y))


@needs_compiler
@pytest.mark.parametrize("layout", LAYOUTS)
def test_extreme_values(layout):
    norm = make(1, 8)
    x = torch.randn(2, 8, 5, 5).contiguous(memory_format=layout)
    with torch.no_grad():
        norm.bias[:] = torch.tensor([-1e4, -200, -89, -20, 20, 89, 200, 1e4])
    torch.testing.assert_close(fused(norm, x), by_torch(norm, x), rtol=1e-5, atol=1e-30)
    for value in (torch.nan, torch.inf, -torch.inf):  # which the loop must notice
        x[1, 2, 3, 4] = value
        for images in (x, x.bfloat16()):
            y = fused(norm, images)
            assert y[0].isfinite().all() and not y[1].isfinite().any()


@needs_compiler
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("shape", "groups"), [((5, 16, 28, 28), 8), ((1, 12, 61, 50), 4)])
def test_the_same_bits_whatever_the_threads_and_the_batch(shape, groups, layout):
    norm, threads = make(groups, shape[1]), torch.get_num_threads()
    x = torch.randn(shape).contiguous(memory_format=layout)
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(results(fused, norm, x))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))
    alone = x[-1:].contiguous(memory_format=layout)
    assert torch.equal(fused(norm, alone), found[0][0][-1:])


def test_other_layouts_and_their_gradients():
    norm = make(4, 8)
    x = torch.randn(3, 8, 12, 14)[:, :, ::2, 1:]
    for got, expected in zip(results(NormSiLU.forward, norm, x), results(by_torch, norm, x), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_may_come_in_any_layout(layout):
    norm, x = make(4, 8), torch.randn(3, 8, 6, 7).contiguous(memory_format=layout).requires_grad_()
    for gradient in (torch.ones(3, 1, 1, 1).expand(3, 8, 6, 7), torch.randn(3, 7, 6, 8).transpose(1, 3)):
        (got,) = torch.autograd.grad(fused(norm, x), x, gradient)
        (expected,) = torch.autograd.grad(by_torch(norm, x), x, gradient)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@needs_compiler
@pytest.mark.parametrize("frozen", [("x",), ("weight", "bias"), ("x", "bias")])
def test_parts_may_be_frozen_and_a_graph_used_twice(frozen):
    norm, x = make(4, 8), torch.randn(3, 8, 6, 7)
    tensors = {"x": x, "weight": norm.weight, "bias": norm.bias}
    for name, tensor in tensors.items():
        tensor.requires_grad_(name not in frozen)
    wanted = [tensor for name, tensor in tensors.items() if name not in frozen]
    y = fused(norm, x)
    first, again = (torch.autograd.grad(y.sum(), wanted, retain_graph=True) for _ in range(2))
    expected = torch.autograd.grad(by_torch(norm, x).sum(), wanted)
    for got, same, other in zip(first, again, expected, strict=True):
        assert torch.equal(got, same)
        torch.testing.assert_close(got, other, rtol=1e-5, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_of_gradients(layout):
    """As a gradient penalty takes them: of weights that are used twice, and for the layers before and behind."""
    found = []
    for function in (fused, by_torch):
        norm, dtype = make(4, 8), torch.float32 if function is fused else torch.float64
        before, norm = nn.Conv2d(8, 8, 3, padding=1).to(dtype=dtype, memory_format=layout), norm.to(dtype)
        x = torch.randn(3, 8, 6, 7).to(dtype).contiguous(memory_format=layout).requires_grad_()
        loss = function(norm, before(function(norm, x))).pow(3).sum()
        gradients = torch.autograd.grad(loss, (x, norm.weight, norm.bias), create_graph=True)
        penalty = sum(gradient.pow(2).sum() for gradient in gradients)
        second = torch.autograd.grad(penalty, (x, norm.weight, norm.bias, before.weight))
        found.append([gradient.detach() for gradient in (*gradients, *second)])
    assert max(errors(*found)) < 1e-5


@needs_compiler
def test_without_a_compiler_the_same_within_rounding():
    x = torch.randn(2, 16, 14, 14).contiguous(memory_format=torch.channels_last)
    compiled = results(fused, make(8, 16), x)
    with patch.object(norm_silu, "_library", lambda *_: None):
        plain = results(NormSiLU.forward, make(8, 16), x)
    assert all(torch.equal(a, b) for a, b in zip(plain, results(by_torch, make(8, 16), x), strict=True))
    assert max(errors(compiled, plain)) < 2e-6


def test_what_does_not_fit_is_torchs():
    norm, x = make(4, 8), torch.randn(3, 8, 6, 7)
    for other in (x.double(), x.half(), torch.randn(3, 8, 5), torch.empty(0, 8, 6, 7), x.to("meta")):
        module = make(4, 8).to(other.device, other.dtype)
        found = module(other)
        assert (found.shape, found.dtype, found.device) == (other.shape, other.dtype, other.device)
        assert other.is_meta or torch.equal(found, by_torch(module, other))
    whole = make(4, 8).bfloat16()  # with parameters of sixteen bits, too
    assert torch.equal(whole(x.bfloat16()), by_torch(whole, x.bfloat16()))
    with FlopCounterMode(display=False) as counter:
        assert torch.equal(norm(x), by_torch(norm, x))
    assert counter.get_total_flops() == 0
    with pytest.raises((RuntimeError, NotImplementedError)):  # and no crash
        make(4, 8).to("meta")(x).sum().item()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        make(4, 4)(torch.randn(1, 4, 1, 1))
    with pytest.raises(RuntimeError):
        norm(torch.randn(3, 12, 6, 7))


def test_what_transforms_operators_sees_torchs():
    norm, x = make(4, 8), torch.randn(3, 8, 6, 7)
    tangent, (parameters, rest) = torch.randn_like(x), (dict(norm.named_parameters()), {})
    expected = torch.func.jvp(lambda x: by_torch(norm, x), (x,), (tangent,))[1]
    assert torch.equal(torch.func.jvp(norm, (x,), (tangent,))[1], expected)
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(norm(forward_ad.make_dual(x, tangent)))
        torch.testing.assert_close(dual.tangent, expected)
    gradients = torch.func.grad(lambda p: torch.func.functional_call(norm, (p, rest), (x,)).sum())(parameters)
    for gradient, other in zip(
        gradients.values(), torch.autograd.grad(by_torch(norm, x).sum(), parameters.values()), strict=True
    ):
        torch.testing.assert_close(gradient, other)
    torch.testing.assert_close(torch.vmap(norm)(x[:, None])[:, 0], by_torch(norm, x))
    with pytest.warns(torch.jit.TracerWarning):  # torch's group norm looks at the sizes
        traced = torch.jit.trace(norm, x)
    torch.testing.assert_close(traced(2 * x), by_torch(norm, 2 * x))


def test_a_graph_is_compiled_in_one_piece():
    norm, x = make(4, 8), torch.randn(3, 8, 6, 7)
    torch.testing.assert_close(torch.compile(norm, backend="eager", fullgraph=True)(x), by_torch(norm, x))


def test_parameters_have_the_names_of_a_group_norm():
    plain = nn.GroupNorm(4, 8)
    make(4, 8).load_state_dict(plain.state_dict())
    norms = {name for name in ResBlock(8, 8, 4).state_dict() if "norm" in name}
    assert norms == {"norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"}
