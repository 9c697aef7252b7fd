"""Attention: float32 on a CPU under autocast, and torch's own otherwise."""

import pytest
import torch
from torch.nn import functional as F

from vistok.nn.attention import attend


def results(function, inputs):
    given = [x.detach().requires_grad_() for x in inputs]
    y = function(*given)
    return [y.detach(), *torch.autograd.grad(y.float().square().sum(), given)]


@pytest.mark.parametrize("causal", [False, True])
def test_autocast_takes_no_digits_on_a_cpu(causal):
    inputs = [torch.randn(2, 3, 7, 16) for _ in range(3)]
    expected = results(lambda *given: F.scaled_dot_product_attention(*given, is_causal=causal), inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = results(lambda *given: attend(*given, causal=causal), inputs)
        mixed = results(lambda *given: attend(*given, causal=causal), [inputs[0], inputs[1], inputs[2].bfloat16()])
    for got, exact in zip(found, expected, strict=True):
        torch.testing.assert_close(got, exact, rtol=1e-5, atol=1e-6)
    assert mixed[0].dtype == torch.float32 and mixed[-1].dtype == torch.bfloat16
    torch.testing.assert_close(mixed[0], expected[0], rtol=2e-2, atol=2e-2)


def test_without_autocast_numbers_keep_their_type():
    query, key, value = torch.randn(3, 1, 2, 5, 8).bfloat16()
    assert torch.equal(attend(query, key, value), F.scaled_dot_product_attention(query, key, value))


def test_a_graph_is_compiled_in_one_piece():
    inputs = [torch.randn(2, 3, 7, 16) for _ in range(3)]

    def both(query, key, value):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return attend(query, key, value) + attend(query, key, value, causal=True)

    graph = torch.compile(both, backend="eager", fullgraph=True)
    torch.testing.assert_close(graph(*inputs), both(*inputs), rtol=1e-5, atol=1e-6)
