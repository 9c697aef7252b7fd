"""Counting on the meta device: the counts and shapes of torch's own, also where they are remembered."""

from contextlib import nullcontext

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from vistok.nn import counting
from vistok.nn.counting import Counting
from vistok.runs import plan
from vistok.verbs import train_tokenizer
from vistok.verbs.show import recipe_json


@pytest.fixture(autouse=True)
def remembered(monkeypatch):
    """What is remembered: nothing, at the beginning."""
    monkeypatch.setattr(counting, "_KNOWN", {})
    return counting._KNOWN


def by_torch(run):
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:
        run()
    return float(counter.get_total_flops())


@pytest.mark.parametrize("name", ["debug_crt", "debug_kl", "debug_line", "debug_ar", "debug_masked", "debug_flow"])
def test_plans_are_those_of_torchs_counter(name, monkeypatch, remembered):
    def planned():
        train_tokenizer._plan.cache_clear()
        return recipe_json(name)["resolved"]

    first, again = planned(), planned()
    assert remembered
    monkeypatch.setattr(plan, "count_flops", by_torch)
    monkeypatch.setattr(plan, "Counting", nullcontext)
    assert first == again == planned()


def outputs(x, y, whole):
    """Operations that differ in little: strides, a number's type, the place of a sum; several outputs, and none of one."""
    product = x @ y
    gradients = torch.autograd.grad((product.softmax(1) * 2).sum(), (x, y))
    normed = torch.native_layer_norm(x, (x.shape[1],), None, None, 1e-5)
    kept = torch.ops.aten.convolution_backward(
        x.view(1, 1, *x.shape), x.view(1, 1, *x.shape), x[:1, :1].view(1, 1, 1, 1), None, (1, 1), (0, 0), (1, 1), False, (0, 0), 1,
        (True, False, False),
    )  # fmt: skip
    return [
        product,
        *gradients,
        *normed,
        *kept,
        x.mT + 1,
        x.T * y,
        whole * 2,
        whole * 2.0,
        whole * True,
        x.sum(0),
        x.sum(1),
        x.topk(2)[1],
    ]


def looks(results):
    return [None if found is None else (found.shape, found.stride(), found.dtype, found.device) for found in results]


def test_outputs_look_as_torchs_do(remembered):
    def inputs():
        x, y = (torch.empty(shape, device="meta", requires_grad=True) for shape in ((4, 6), (6, 4)))
        return x, y, torch.empty(3, dtype=torch.int64, device="meta")

    expected = looks(outputs(*inputs()))
    for _ in range(2):
        with Counting():
            assert looks(outputs(*inputs())) == expected
    assert None in expected and remembered


def test_views_share_memory_and_writes_arrive():
    with Counting():
        for _ in range(2):
            x = torch.empty(4, 6, device="meta")
            assert x.view(24).untyped_storage()._cdata == x.untyped_storage()._cdata
            assert torch.ops.aten._unsafe_view(x, [24]).untyped_storage()._cdata == x.untyped_storage()._cdata
            assert x.add_(1) is x


def test_what_is_not_on_the_meta_device_is_computed(remembered):
    x = torch.randn(3, 5)
    with Counting() as run:
        assert torch.equal(x @ x.T, (x @ x.T).clone()) and torch.equal(torch.arange(3), torch.tensor([0, 1, 2]))
    assert run.flops == 2 * 2 * 3 * 5 * 3
    assert not remembered


def test_what_is_remembered_is_bounded(monkeypatch, remembered):
    monkeypatch.setattr(counting, "LIMIT", 5)
    with Counting():
        for size in range(1, 20):
            assert (torch.empty(size, device="meta") * 2).shape == (size,)
    assert len(remembered) <= 5
