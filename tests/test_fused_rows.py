"""The gated layer's middle and the root-mean-square norm as C++ kernels: as exact as torch's, and torch's own where they do not fit."""

from unittest.mock import patch

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from test_native import needs_compiler
from vistok.nn import gated as gated_module
from vistok.nn import rms_norm
from vistok.nn.gated import gated, gated_halves
from vistok.nn.rms_norm import RMSNorm

# Those of the recipes; none that vectors divide; single values.
SHAPES = [(4, 49, 128), (3, 5, 14), (2, 1, 33), (1, 1, 2), (2, 200, 384)]


def modulated(x: Tensor, weight: Tensor, condition: Tensor) -> Tensor:
    """Norm with a shift and a scale as a modulation makes them: parts of one tensor."""
    norm = RMSNorm(x.shape[-1], eps=1e-6)
    norm._parameters["weight"] = weight
    shift, scale, _ = condition.chunk(3, dim=-1)
    return norm.modulated(x, shift, scale)


def normed(x: Tensor, weight: Tensor) -> Tensor:
    norm = RMSNorm(x.shape[-1], eps=1e-6)
    norm._parameters["weight"] = weight
    return norm(x)


def of_halves(both: Tensor) -> Tensor:
    return gated_halves(both)


# Function -> (the same by other operators, sizes of its inputs for a shape).
BY_TORCH = {
    gated: (lambda gate, up: F.silu(gate) * up, lambda b, p, w: [(b, p, w)] * 2),
    of_halves: (lambda both: F.silu(both[..., : both.shape[-1] // 2]) * both[..., both.shape[-1] // 2 :],
                lambda b, p, w: [(b, p, 2 * w)]),
    normed: (lambda x, weight: x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight,
             lambda b, p, w: [(b, p, w), (w,)]),
    modulated: (
        lambda x, weight, c: x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight
        * (1 + c[..., x.shape[-1] : 2 * x.shape[-1]]) + c[..., : x.shape[-1]],
        lambda b, p, w: [(b, p, w), (w,), (b, 1, 3 * w)],
    ),
}  # fmt: skip
FUNCTIONS = list(BY_TORCH)
LIBRARIES = {gated: gated_module, of_halves: gated_module, normed: rms_norm, modulated: rms_norm}


def inputs_of(function, shape, scale: float = 1.0) -> list[Tensor]:
    torch.manual_seed(0)
    return [torch.randn(size) * scale for size in BY_TORCH[function][1](*shape)]


def results(function, inputs: list[Tensor], dtype: torch.dtype = torch.float32, rounded: bool = False) -> list[Tensor]:
    """Return the output and the gradients for all inputs; `rounded`: for a gradient of bfloat16's values."""
    given = [x.detach().to(dtype).requires_grad_() for x in inputs]
    y = function(*given)
    gradient = torch.randn(y.shape, generator=torch.Generator().manual_seed(1))
    gradient = (gradient.bfloat16() if rounded else gradient).to(dtype)
    return [y.detach(), *torch.autograd.grad(y, given, gradient)]


def errors(found: list[Tensor], exact: list[Tensor]) -> list[float]:
    return [float((a - b).abs().max() / b.abs().max().clamp(min=1e-30)) for a, b in zip(found, exact, strict=True)]


@needs_compiler
@pytest.mark.parametrize("scale", [1, 1e-2, 30])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_as_exact_as_torch(function, shape, scale):
    inputs, plain = inputs_of(function, shape, scale), BY_TORCH[function][0]
    exact = results(plain, inputs, torch.float64)
    with patch.object(LIBRARIES[function], "_library", wraps=LIBRARIES[function]._library) as asked:
        ours = errors(results(function, inputs), exact)
    assert asked.call_count >= 3  # it is the kernel that answers, on both ways
    theirs = errors(results(plain, inputs), exact)
    assert all(mine < 4 * other + 1e-6 for mine, other in zip(ours, theirs, strict=True)), (ours, theirs)


@needs_compiler
@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_same_bits_whatever_the_threads_and_the_batch(function):
    inputs, threads, found = inputs_of(function, (6, 100, 96)), torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(results(function, inputs))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))
    alone = [x[-1:] if x.dim() > 1 else x for x in inputs]
    assert torch.equal(function(*alone), found[0][0][-1:])


@needs_compiler
@pytest.mark.parametrize("function", FUNCTIONS)
def test_parts_may_be_frozen_and_gradients_lie_anyhow(function):
    inputs, plain = inputs_of(function, (3, 7, 10)), BY_TORCH[function][0]
    for number in range(len(inputs)):
        given = [x.clone().requires_grad_(i == number) for i, x in enumerate(inputs)]
        for gradient in (torch.ones(1).expand(3, 7, 10), torch.randn(10, 7, 3).permute(2, 1, 0)):
            (got,) = torch.autograd.grad(function(*given), given[number], gradient)
            (expected,) = torch.autograd.grad(plain(*given), given[number], gradient)
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(function(*inputs), plain(*inputs), rtol=1e-5, atol=1e-6)


@needs_compiler
@pytest.mark.parametrize("function", FUNCTIONS)
def test_gradients_of_gradients(function):
    found = []
    for one, dtype in ((function, torch.float32), (BY_TORCH[function][0], torch.float64)):
        given = [x.to(dtype).requires_grad_() for x in inputs_of(function, (2, 5, 12))]
        first = torch.autograd.grad(one(*given).pow(3).sum(), given, create_graph=True)
        second = torch.autograd.grad(sum(gradient.pow(2).sum() for gradient in first), given)
        found.append([gradient.detach() for gradient in (*first, *second)])
    assert max(errors(*found)) < 2e-5


@needs_compiler
@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_not_finite_is_seen(function):
    for value in (torch.nan, torch.inf):
        inputs = inputs_of(function, (2, 3, 9))
        inputs[0][1, 2, 4] = value
        y = function(*inputs)
        assert y[0].isfinite().all() and not y[1, 2].isfinite().all()


@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_does_not_fit_is_torchs(function):
    inputs, plain = inputs_of(function, (2, 3, 8)), BY_TORCH[function][0]
    for other in ([x.double() for x in inputs], [x.to("meta") for x in inputs]):
        found = function(*other)
        assert (found.dtype, found.device) == (other[0].dtype, other[0].device)
        assert found.is_meta or torch.allclose(found, plain(*other))
    turned = [x.transpose(0, 1).contiguous().transpose(0, 1) if x.dim() > 1 else x for x in inputs]
    for got, expected in zip(results(function, turned), results(plain, inputs), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    tangents = tuple(torch.ones_like(x) for x in inputs)
    torch.testing.assert_close(
        torch.func.jvp(function, tuple(inputs), tangents), torch.func.jvp(plain, tuple(inputs), tangents)
    )


@needs_compiler
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_autocast_takes_no_digits(function, compiled):
    """A dot product of values with themselves was rounded to three digits by it."""
    inputs, plain = inputs_of(function, (2, 3, 64), scale=3), BY_TORCH[function][0]
    library = LIBRARIES[function]._library if compiled else lambda *_: None
    with patch.object(LIBRARIES[function], "_library", library), torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(function(*inputs), plain(*inputs), rtol=1e-5, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("scale", [1, 30])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("function", [gated, of_halves])
def test_sixteen_bits_are_as_exact_as_torchs(function, shape, scale):
    inputs, plain = [x.bfloat16() for x in inputs_of(function, shape, scale)], BY_TORCH[function][0]
    exact = results(plain, inputs, torch.float64, rounded=True)
    with patch.object(LIBRARIES[function], "_library", wraps=LIBRARIES[function]._library) as asked:
        found = results(function, inputs, torch.bfloat16)
    assert asked.call_count >= 3 and all(x.dtype == torch.bfloat16 for x in found)
    theirs = errors(results(plain, inputs, torch.bfloat16), exact)
    assert all(mine <= other + 1e-6 for mine, other in zip(errors(found, exact), theirs, strict=True))


@needs_compiler
def test_a_condition_of_sixteen_bits_modulates_float32():
    x, weight, condition = inputs_of(modulated, (2, 3, 8))
    expected = BY_TORCH[modulated][0](x, weight, condition.bfloat16().float())
    found = modulated(x, weight, condition.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_graph_is_compiled_in_one_piece():
    x, condition, norm = torch.randn(2, 3, 8), torch.randn(2, 1, 16), RMSNorm(8)
    shift, scale = condition.chunk(2, dim=-1)
    for function, inputs in ((of_halves, (x,)), (gated, (x, x)), (norm, (x,)), (norm.modulated, (x, shift, scale))):
        graph = torch.compile(function, backend="eager", fullgraph=True)
        torch.testing.assert_close(graph(*inputs), function(*inputs), rtol=1e-5, atol=1e-6)


@needs_compiler
@pytest.mark.parametrize("function", FUNCTIONS)
def test_without_a_compiler_the_same_within_rounding(function):
    inputs = inputs_of(function, (4, 49, 128))
    compiled = results(function, inputs)
    with patch.object(LIBRARIES[function], "_library", lambda *_: None):
        plain = results(function, inputs)
    assert max(errors(compiled, plain)) < 4e-6
